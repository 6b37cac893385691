#!/usr/bin/env bash
# Writes what this run changes beside a Git revision into pull_request/: comment.md, and index.html with the plots.
#
#     ci/comment.sh main
set -euo pipefail
base=$1
if ! git rev-parse --quiet --verify "$base^{commit}" >/dev/null; then
    echo "error: BASE = $base: no such revision; name the branch that this one goes into, as in BASE=origin/main" >&2
    exit 1
fi

# DVC draws the head of a table that has no rows.
table() {
    local text
    text=$("$@" --md "$base")
    if [ "$(grep -c '^|' <<<"$text")" -gt 2 ]; then
        echo "$text"
    else
        echo "No change."
    fi
}

comment() {
    echo "## The sample run beside \`$base\`"
    echo
    echo "### Parameters"
    echo
    table dvc params diff
    echo
    echo "### Scores"
    echo
    table dvc metrics diff --no-path
    echo
    python -m ci.loss_chart "$base"
    echo
    echo "Is a difference more than chance? A paired test over the dialogues:"
    echo
    echo '```text'
    # Runs on other tables cannot be paired: then the line that says so is the answer.
    local paired
    paired=$(python -m stages.compare "$base" workspace 2>&1) || paired=${paired##*$'\n'}
    echo "$paired"
    echo '```'
    if ! git diff --quiet "$base" -- metrics/train/machine.json; then
        echo
        echo "The two ran on different kinds of machine. Rounding alone moves scores between them."
    fi
}

mkdir -p pull_request
dvc plots diff --out pull_request "$base" >/dev/null
comment >pull_request/.comment.md.tmp
mv pull_request/.comment.md.tmp pull_request/comment.md
cat pull_request/comment.md
