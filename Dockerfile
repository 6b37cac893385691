# The environment, and the sample run as what it does by default.
#     docker build --tag summary . && docker run --name sample summary
# With `--build-arg DEVICE=cuda`, and `docker run --gpus all`, it runs on NVIDIA GPUs.
FROM python:3.11-bookworm

ARG DEVICE=cpu
WORKDIR /project

# Packages come before the code, which changes more often.
COPY Makefile requirements.lock ./
RUN case "$DEVICE" in \
        cpu) export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu ;; \
        cuda) ;; \
        *) echo "error: DEVICE = $DEVICE: allowed: cpu, cuda" >&2; exit 1 ;; \
    esac \
    && PIP_NO_CACHE_DIR=1 make setup PYTHON=python

COPY . .
CMD ["make", "repro"]
