"""The parameters of a run, typed and validated: `params.yaml` as values that stages can trust."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import date
from functools import reduce
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeVar, cast, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.core.errors import UserError

Settings = dict[str, Any]
"""Values by dotted key, as `flat` gives them."""

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Percent = Annotated[str, Field(pattern=r"^(\d+(\.\d*)?|\.\d+)%$")]
CountOrShare = Annotated[Count | Percent, Field(description="an integer of at least 0, or a share such as 20%")]
"""Of rows: see `stages.core.amount`."""


def _is_a_day(text: str) -> str:
    date.fromisoformat(text)
    return text


Day = Annotated[
    str,
    Field(pattern=r"^[1-9]\d{3}-\d\d-\d\d$", description='a day such as "2024-07-26", in quotes'),
    AfterValidator(_is_a_day),
]


class Section(BaseModel):
    """A section of params.yaml: unknown keys and wrong types are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)


class Model(Section):
    """Which base model is tuned."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="a key of models.yaml")]
    """The base model: a key of models.yaml."""


class Quantization(Section):
    """How the base model is held in memory."""

    load_in_4bit: bool
    """Hold the frozen base in 4 bits; false holds it in `compute_dtype`."""
    type: Literal["nf4", "fp4"]
    """The 4-bit data type."""
    double_quant: bool
    """Quantize the quantization constants too: 0.4 bit a weight less."""
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"]
    """What products are computed in; auto is bfloat16 where the device has it, else float16 (GPU) or float32 (CPU)."""
    compute: Literal["bf16", "fp8"]
    """Training's products with the frozen base; fp8 rounds both sides to 8-bit floats, and needs Hopper or later."""


class ExtraTable(Section):
    """A further training table, of whatever language."""

    path: Annotated[str, Field(pattern=r"[^/\\]\.csv$", description="the path of a .csv file")]
    """Where it is: in data/raw, or anywhere else."""
    rows: CountOrShare = "100%"
    """The most rows to take of it, or a share of them; above 100% rows are repeated: 200% takes each twice."""


def _files_differ(tables: list[ExtraTable]) -> list[ExtraTable]:
    names = [PurePath(table.path).name for table in tables]
    if len(set(names)) < len(names):
        raise ValueError("two files of one name")
    return tables


class Data(Section):
    """The tables that come in, and the submission that goes out."""

    source: Name
    """The folder with train.csv, dev.csv and test.csv."""
    limit: Count
    """Rows kept of each table, from the top; 0 keeps all."""
    extra: Annotated[
        list[ExtraTable],
        AfterValidator(_files_differ),
        Field(description="a list such as [{path: data/raw/english.csv, rows: 50%}], no two of one name; [] for none"),
    ]
    """Further training tables: their rows go where the training table's go, but are not augmented."""
    submission_index: bool
    """Write the unnamed index column before fname, as the published sample has it."""


class Clean(Section):
    """How noise is removed."""

    rules: Name
    """The table of denoise rules."""
    fix_spacing: bool
    """Close up spaces before punctuation and doubled spaces."""
    fix_typos: bool
    """Correct misspellings, stray jamo and wrong spaces between words."""
    typo_threshold: Annotated[float, Field(gt=0, le=100)]
    """The least confidence of such a correction, in nats: at 8 the odds for it are 3,000 to 1."""


Action = Literal["ignore", "warn", "remove", "stop"]


class Check(Section):
    """What becomes of the rows in which a check finds something; `remove` is for train, others keep their rows."""

    empty_summary: Action
    """A summary has no letters outside its masks and tags."""
    long_summary: Action
    """A summary is longer than its dialogue."""
    unknown_speaker: Action
    """A summary names a speaker who does not speak."""
    not_korean: Action
    """Of a text's letters, fewer than `min_korean_share` are Hangul."""
    min_korean_share: Annotated[float, Field(ge=0, le=1)]
    """Share of the letters, outside masks and tags, that are Hangul in a Korean text."""
    first_speaker: Action
    """A dialogue does not start with #Person1#."""
    doubtful_tag: Action
    """A dialogue may hold a turn whose tag is not surely one, and so was not mended."""
    unsigned_speaker: Action
    """A summary names a speaker without the signs of its tag."""
    preamble: Action
    """A text begins with what a language model says before the text it was asked for."""
    personal_data: Literal["ignore", "warn", "mask", "stop"]
    """A text holds a phone number or the like; `mask` masks it, in dev and test in the dialogue alone."""
    exact_duplicates: Action
    """A row of train has the dialogue and the summary of an earlier one."""
    leakage: Action
    """A row of train has a dialogue like one of dev or test."""
    near_duplicates: Action
    """A row has a dialogue like that of an earlier row: one of train's of train, one of dev's or test's of those."""
    near_duplicate_threshold: Annotated[float, Field(ge=0.5, le=1)]
    """Share of the character trigrams of two dialogues that both must have to be alike."""


class Llm(Section):
    """The server that paraphrasing and synthesizing ask."""

    base_url: Annotated[
        str,
        Field(
            pattern=r"^https?://[^\s/:]+(:(\d{1,4}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]))?(/\S*)?$",
            description="an address such as http://localhost:8000/v1",
        ),
    ]
    """Any server that speaks the OpenAI protocol."""
    model: Name
    """The model that the server is asked for."""
    api_key_env: Annotated[
        str,
        Field(
            pattern=r"^([A-Z_][A-Z0-9_]*)?$",
            description='the name of a variable such as UPSTAGE_API_KEY, or "" for a server that needs no key',
        ),
    ]
    """The variable of .env, or of the environment, that holds the key; "" sends none."""
    without_key: Literal["skip", "stop"]
    """Where that variable is not set: leave out what is not answered in data/answers, or stop."""
    temperature: Annotated[float, Field(ge=0, le=2)]
    """Sampling temperature."""
    max_tokens: Positive
    """The longest answer, in tokens."""
    concurrency: Annotated[int, Field(ge=1, le=256)]
    """Requests under way at once."""
    timeout: Annotated[float, Field(gt=0)]
    """Seconds before a request is given up."""
    structured: Literal["auto", "json_schema", "none"]
    """Whether the server holds the answer to a JSON schema; auto does so unless the server refuses."""
    requests_per_minute: Count
    """The most requests in any minute, evenly spaced; 0 is no limit."""
    tokens_per_minute: Count
    """The most tokens in any minute, of prompts and answers; 0 is no limit."""
    price_per_million_input: Annotated[float, Field(ge=0)]
    """What a million prompt tokens cost, in any currency; 0 where nobody counts."""
    price_per_million_output: Annotated[float, Field(ge=0)]
    """What a million tokens of answers cost, in the same currency."""
    max_cost: Annotated[float, Field(ge=0)]
    """A stage asks for nothing more once its answers, kept ones included, have cost so much; 0 is no limit."""
    max_total_tokens: Count
    """The same, in tokens of prompts and answers; 0 is no limit."""
    ask_refused_again: bool
    """Ask again what server or model refused in an earlier run; false keeps the refusal."""
    allow_personal_data: bool
    """Send rows that hold phone numbers and the like unmasked; false stops before anything is sent."""


class Paraphrase(Section):
    """Training rows in other words, by the LLM."""

    n: CountOrShare
    """Training rows to rewrite, or a share of them; 0 skips it."""


class SpeakerSwap(Section):
    """Training rows with their speakers exchanged."""

    n: CountOrShare
    """Training rows to repeat with speakers exchanged, or a share of them; 0 skips it."""
    keep_first_speaker: bool
    """Keep the corpus rule that #Person1# speaks first, by letting the first two speakers trade places."""


class Synthesize(Section):
    """New dialogues, by the LLM."""

    n: CountOrShare
    """New dialogues to write, or their number as a share of the training rows; 0 skips it."""
    few_shot: Annotated[int, Field(ge=1, le=8)]
    """Training rows shown as examples in each request."""
    styles: Annotated[list[Name], Field(min_length=1)]
    """Who talks to whom, how, and over what: one for each request, in turn."""


class Balance(Section):
    """How many augmented rows are merged, by their source."""

    paraphrase: Annotated[float, Field(ge=0)]
    """The most paraphrased rows for each original row; the surplus is left out."""
    speaker_swap: Annotated[float, Field(ge=0)]
    """The same for rows with their speakers exchanged."""
    synthetic: Annotated[float, Field(ge=0)]
    """The same for new dialogues."""


class Quality(Section):
    """What a row that the LLM wrote must keep to be used."""

    min_korean_share: Annotated[float, Field(ge=0, le=1)]
    """Share of the letters of a dialogue, and of a summary, that are Hangul; tags and masks do not count."""
    min_length_ratio: Annotated[float, Field(ge=0, le=1)]
    """The shortest text, by the length of what it rewrites or of what was asked for."""
    max_length_ratio: Annotated[float, Field(ge=1)]
    """The longest text, in the same way."""
    max_similarity: Annotated[float, Field(gt=0, le=1)]
    """From this similarity on, a dialogue is too close to its origin, or to any other training or generated one."""
    max_held_out_similarity: Annotated[float, Field(gt=0, le=1)]
    """From this similarity on, a dialogue is too close to one of dev or test."""


class Augment(Section):
    """What is added to the training rows."""

    llm: Llm
    paraphrase: Paraphrase
    speaker_swap: SpeakerSwap
    synthesize: Synthesize
    quality: Quality
    balance: Balance


class Prompt(Section):
    """What the model reads, in training and in generation."""

    instruction: Name
    """What the model is asked to do."""
    max_tokens: Annotated[int, Field(ge=64)]
    """The longest prompt, in tokens; a longer dialogue loses turns from its middle, a summary never."""
    few_shot: Annotated[int, Field(ge=0, le=8)]
    """Original training rows shown before the dialogue; they are held out of training."""
    date: Day
    """Today, for a chat template that writes today's date; kept with the adapter, so that its prompt never changes."""


class Lora(Section):
    """The adapter."""

    r: Annotated[int, Field(ge=1, le=1024)]
    """Rank."""
    alpha: Annotated[float, Field(gt=0)]
    """Scale: the update is multiplied by alpha / r."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of the adapter's inputs that is zeroed while training."""
    target_modules: Annotated[
        Name | Annotated[list[Name], Field(min_length=1)],
        Field(description="all-linear, or a list of the names of layers"),
    ]
    """`all-linear`, or the names of the linear layers that get an adapter."""
    use_rslora: bool
    """Multiply the update by alpha / sqrt(r) instead (https://arxiv.org/abs/2312.03732)."""
    use_dora: bool
    """Learn the magnitude of each weight's rows beside its direction (https://arxiv.org/abs/2402.09353)."""
    plus_ratio: Annotated[float, Field(ge=1, le=64)]
    """How many times faster B learns than A (LoRA+, https://arxiv.org/abs/2402.12354)."""
    rank_pattern: Annotated[
        dict[str, Annotated[int, Field(ge=1, le=1024)]],
        Field(description="a mapping from names of layers to ranks, such as {q_proj: 32}"),
    ]
    """Ranks of layers that get another than `r`, by name or regular expression."""


class Train(Section):
    """How the adapter is trained."""

    epochs: Annotated[float, Field(gt=0)]
    """Passes over the training rows."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    """The peak of the cosine schedule."""
    batch_size: Positive
    """Rows in a step. How they are divided into micro-batches is a matter of memory alone, see below."""
    loss_on: Literal["completion", "all"]
    """The tokens that are learned: the summary and its end, or the prompt too, which costs score; dev is always scored
    on the summary."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]
    """Share of the steps over which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)]
    """AdamW's weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)]
    """Gradients are scaled down to this norm."""
    optimizer: Literal["adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit"]
    """The optimizer; the 8-bit ones need less memory."""
    neftune_noise_alpha: Annotated[float, Field(ge=0, le=100)]
    """Noise on the embeddings while training (https://arxiv.org/abs/2310.05914); 0 for none."""
    gpus: Annotated[Literal["auto"] | Positive, Field(description="auto, or an integer of at least 1")]
    """GPUs that share the rows of a step, with a process each; auto: all that are visible, up to `batch_size`."""
    gradient_lanes: Annotated[Literal["auto"] | Positive, Field(description="auto, or an integer of at least 1")]
    """Parts that the rows of a step are dealt to, and their gradients added in; processes share them, and a CPU's
    adapter is the same with any number of processes; auto: one a process."""
    memory: Annotated[
        Literal["auto"] | Annotated[float, Field(ge=0.5)], Field(description="auto, or GiB of at least 0.5")
    ]
    """GPU memory that training may take, in GiB; auto: all that is free."""
    max_tokens_per_batch: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=64)], Field(description="auto, or an integer of at least 64")
    ]
    """Tokens of a micro-batch, filled with whole rows and no padding; auto: what is fastest in `memory`."""
    checkpointed_layers: Annotated[
        Literal["auto", "all"] | Count, Field(description="auto, all, or an integer of at least 0")
    ]
    """Layers recomputed in the backward pass to save memory; auto: what is fastest in `memory`."""
    dequantize: Literal["auto", "always", "never"]
    """Hold the 4-bit base in the compute dtype while training: the same numbers, faster, and more memory."""
    eval_steps: Annotated[
        Positive | Percent, Field(description="an integer of at least 1, or a share of an epoch such as 50%")
    ]
    """Steps between evaluations, which are also checkpoints, or a share of an epoch; the last step is one too."""
    early_stopping_patience: Annotated[
        Count | Percent, Field(description="an integer of at least 0, or a share of an epoch such as 100%")
    ]
    """Evaluations without a better loss before training stops, or that as a share of an epoch; 0 never stops early."""
    save_total_limit: Positive
    """Checkpoints kept while training, beside the best."""
    preview_samples: Count
    """Dev dialogues summarized and scored after each evaluation."""
    preview_max_new_tokens: Annotated[int, Field(ge=1, le=4096)]
    """The longest of these summaries, in tokens."""


class Folds(Section):
    """Adapters that have not seen a part of the training rows: for an ensemble, and to predict these rows."""

    n: Annotated[Literal[0] | Annotated[int, Field(ge=2, le=20)], Field(description="0, or an integer from 2 to 20")]
    """Parts that the training rows are divided into, each with an adapter that is trained on the others; 0 for none."""


class Refit(Section):
    """A last adapter, which learns dev too: for the submission alone, since nothing is left to score it on."""

    enabled: bool
    """Train it, as many epochs as were best on dev, and let it summarize test in place of models/adapter."""


class Candidates(Section):
    """Several summaries of each training row, by the adapter of its fold, and of each dev row by models/adapter."""

    samples: Annotated[int, Field(ge=0, le=256)]
    """Summaries sampled for each row; 0 writes no candidates at all. They need folds."""
    temperature: Annotated[float, Field(gt=0, le=2)]
    """The samples' temperature."""
    num_beams: Annotated[int, Field(ge=1, le=32)]
    """Beams of the search whose hypotheses are candidates beside the samples."""


Points = Annotated[float, Field(ge=0)]


class Reward(Section):
    """What a candidate is worth to what learns from it: its score by `evaluate.objective`, less these points."""

    swapped_speakers: Points
    """Off for two speakers whose words it has the wrong way round."""
    silent_speakers: Points
    """Off for a speaker's tag that does not speak in the dialogue."""
    invented: Points
    """Off for a number, a Latin word or a mask that the dialogue does not hold."""
    repeats: Points
    """Off for the same three words twice."""
    length: Points
    """Off for a length 2.7 times that of the references, or for the 2.7th part; for others by their logarithm."""


class Align(Section):
    """A further training that begins from models/adapter, and learns which of its candidates are worth more."""

    objective: Literal["none", "ranking", "dpo"]
    """What it makes small: ranking (https://arxiv.org/abs/2203.16804), dpo (https://arxiv.org/abs/2305.18290); none:
    nothing is trained."""
    fine_tuning: Annotated[float, Field(ge=0)]
    """Weight of the loss of fine-tuning on the reference, beside the objective's, whose weight is 1."""
    candidates: Annotated[int, Field(ge=2, le=64)]
    """ranking: the most candidates of a row that are compared, from the best to the worst."""
    margin: Annotated[float, Field(ge=0)]
    """ranking: how much likelier a token of a candidate is to be than one of the next best one, in nats."""
    beta: Annotated[float, Field(gt=0)]
    """dpo: how strongly the adapter is held to what it was."""
    least_gap: Annotated[float, Field(ge=0)]
    """dpo: points of reward that a row's best candidate is above its worst, at least, for the two to be a pair."""
    epochs: Annotated[float, Field(gt=0)]
    """Passes over the rows."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    """The peak of the cosine schedule. All else is as in `train`."""


Share = Annotated[float, Field(ge=0, le=1)]
NewTokens = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True)
class DecodingSettings:
    """How one summary is searched for; `stages/engines` obeys it.

    What has a default, at which it does nothing, is searched: params.yaml has it twice, as the value without a search
    and, after `tune_`, as the list to try. Lengths are shares of the dialogue's tokens; 0 sets no limit.
    """

    max_new_tokens: NewTokens
    """The longest summary, in tokens."""
    num_beams: Annotated[int, Field(ge=1, le=32)] = 1
    """Beams; 1 is greedy."""
    length_penalty: Annotated[float, Field(ge=-10, le=10)] = 1.0
    """Above 0 longer beams win, below 0 shorter ones; one search serves several."""
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Above 1 tokens already seen get less likely."""
    min_length: Share = 0.0
    """The shortest summary, as a share of the dialogue's tokens."""
    max_length: Share = 0.0
    """The longest summary, as a share of the dialogue's tokens; 0 sets no limit."""
    stop_at_sentence: bool = False
    """Let a summary that has reached `max_length` go on to the end of its sentence."""


SEARCHED = {field.name: field.default for field in fields(DecodingSettings) if field.default is not MISSING}
"""The settings that are searched, with the values at which they do nothing."""
SEARCHED_AS = "tune_"


def searched(section: type[S]) -> type[S]:
    """Put the searched settings into a section before its field `tune`, and their lists after `tune_samples`."""
    types = {name: get_type_hints(DecodingSettings, include_extras=True)[name] for name in SEARCHED}
    added: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if name == "tune":
            added |= {each: (kind, ...) for each, kind in types.items()}
        added[name] = (field.annotation, field)
        if name == "tune_samples":
            lists = {each: Annotated[list[kind], Field(min_length=1)] for each, kind in types.items()}  # type: ignore[valid-type]
            added |= {f"{SEARCHED_AS}{each}": (kind, ...) for each, kind in lists.items()}
    made = create_model(section.__name__, __base__=Section, __doc__=section.__doc__, **added)
    return cast(type[S], made)


@searched
class Decoding(Section):
    """How summaries are generated: the fields below, and those of `DecodingSettings`."""

    engine: Literal["transformers", "vllm"]
    """What generates in `infer`; vllm loads models/merged, and is installed as the extra `vllm`."""
    gpus: Annotated[Literal["auto"] | Positive, Field(description="auto, or an integer of at least 1")]
    """GPUs that share the dialogues, the first of the visible ones; auto: all. It decides nothing but the time."""
    batch_size: Positive
    """The most dialogues generated at once."""
    max_tokens_per_batch: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=256)], Field(description="auto, or an integer of at least 256")
    ]
    """The most tokens held at once: dialogues x (longest prompt + beams x longest summary); auto: what memory holds."""
    max_new_tokens: NewTokens
    """The longest summary, in tokens."""
    tune: bool
    """Search the lists of `tune_` on dev; false takes the settings as they are."""
    tune_samples: Annotated[int, Field(ge=2)]
    """The most dev dialogues that the search uses; its gain is cross-validated between their halves."""
    tune_rerank: bool
    """Weigh mbr against none on the same dialogues, with `samples` and without; false takes `rerank` as it is."""
    rerank: Literal["none", "mbr", "learned"]
    """mbr takes, of beams and samples, the one most like all others by `evaluate.objective`; learned weighs that with
    likelihood, length and repeats, as was best on the candidates of training rows."""
    samples: Count
    """Summaries sampled for each dialogue and adapter, to rerank."""
    temperature: Annotated[float, Field(gt=0, le=2)]
    """The samples' temperature."""
    ensemble: Annotated[
        list[Name],
        Field(description="a list of adapter folders, DVC experiments or Git revisions, or folds; [] for none"),
    ]
    """Adapters whose summaries mbr chooses among, beside models/adapter; `folds` stands for those of all folds."""
    prompts: Annotated[list[Name], Field(description="a list of instructions; [] for none")]
    """Instructions that mbr's candidates are written with too, by each adapter, beside the one it was trained with."""
    postprocess: Annotated[
        list[Literal["thinking", "particles", "repeated", "clauses", "unfinished"]],
        Field(description="a list of thinking, particles, repeated, clauses, unfinished; [] for none"),
    ]
    """Rules that a summary goes through; stages/decoding/postprocess.py has an example of each."""
    min_hangul: Share
    """The least share of Hangul among a summary's letters: below it the dialogue is summarized again; 0 never."""


class Evaluate(Section):
    """How summaries are scored."""

    objective: Literal["balanced", "published"]
    """What decoding settings and candidates are chosen by; balanced is the mean of published and clipped ROUGE."""
    morphemes: Literal["kiwi", "mecab"]
    """The analyzer behind the morpheme-level scores; mecab is the one that competition teams assume."""


class Params(Section):
    """All of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Seeds every shuffle, initialisation and dropout."""
    model: Model
    quantization: Quantization
    data: Data
    clean: Clean
    check: Check
    augment: Augment
    prompt: Prompt
    lora: Lora
    train: Train
    folds: Folds
    refit: Refit
    candidates: Candidates
    reward: Reward
    align: Align
    decoding: Decoding
    evaluate: Evaluate
    gpus_per_experiment: Count
    """Free GPUs that each stage of a queued experiment waits for and has alone; 0: it shares all that are visible."""

    @model_validator(mode="after")
    def _go_together(self) -> Params:
        for contradicts, problem in _contradictions(self):
            if contradicts:
                raise ValueError(problem)
        return self


def _contradictions(params: Params) -> Iterator[tuple[bool, str]]:
    """Whether values do not go together that are allowed each for itself, and what to say then."""
    decoding = params.decoding
    is_learned, aligns = decoding.rerank == "learned", params.align.objective != "none"
    weighed = decoding.rerank != "none" or decoding.tune_rerank
    yield (
        decoding.tune_rerank and not decoding.tune,
        "decoding.tune_rerank = true: needs decoding.tune: true, which tries it on dev",
    )
    yield (
        decoding.tune_rerank and is_learned,
        "decoding.tune_rerank = true: weighs mbr; set it to false for decoding.rerank: learned",
    )
    yield (
        bool(params.candidates.samples) and not params.folds.n,
        f"candidates.samples = {params.candidates.samples}: there are no folds to write them; set folds.n",
    )
    for needs, key in (
        (aligns, f'align.objective = "{params.align.objective}"'),
        (is_learned, 'decoding.rerank = "learned"'),
    ):
        yield needs and not params.candidates.samples, f"{key}: there are no candidates; set candidates.samples"
    yield (
        is_learned and decoding.engine == "vllm",
        'decoding.rerank = "learned": needs decoding.engine: transformers',
    )
    yield (
        aligns and params.refit.enabled,
        "refit.enabled = true: what it trains is not aligned; set it to false, or align.objective: none",
    )
    for name in ("ensemble", "prompts"):
        given = getattr(decoding, name)
        key = f"decoding.{name} = {show(given)}"
        yield bool(given) and not weighed, f"{key}: needs decoding.rerank: mbr, which chooses among them"
        yield bool(given) and decoding.engine == "vllm", f"{key}: needs decoding.engine: transformers"
    yield (
        "folds" in decoding.ensemble and not params.folds.n,
        f"decoding.ensemble = {show(decoding.ensemble)}: there are no folds; set folds.n",
    )
    yield (
        params.refit.enabled and decoding.engine == "vllm",
        'decoding.engine = "vllm": it loads models/merged, and test is for models/refit; set transformers, or '
        "refit.enabled: false",
    )


ONLY_TIME = ("train.gpus", "decoding.gpus", "gpus_per_experiment")
"""What decides how long a run takes, and nothing that it writes."""


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and validate all of params.yaml, so that a mistake anywhere in it stops the run before any work.

    YAML 1.2 rules apply: `1e-05`, which `dvc exp run -S` writes, is a number.

    Raises:
        UserError: the file is missing, is not YAML, or one of its values is not allowed. The message names the
            key, its value and what is allowed.
    """
    return validate(Params, read_yaml(path), f"{path}: ")


def validate(section: type[S], values: dict[str, Any], where: str) -> S:
    """Check the values of a section; `where` names their file, and stands before the key in a message.

    Raises:
        UserError: a key is unknown or missing, or a value is not allowed.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise UserError(where + _first_problem(error, section, values)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML 1.2 file.

    Raises:
        UserError: the file is missing, is not UTF-8, is not YAML, or holds no mapping.
    """
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run from the repository's top folder") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it as UTF-8") from None
    except (YAMLError, ValueError) as error:  # ValueError: a date or a number that no calendar or computer has
        raise UserError(f"{path}: not valid YAML: {_yaml_problem(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no keys; restore it with `git checkout {path}`")
    return values


def flat(section: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a section and of those in it, by dotted key.

    >>> dict(flat({"lora": {"r": 16}, "seed": 1}))
    {'lora.r': 16, 'seed': 1}
    """
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{parent}{key}.")
        else:
            yield f"{parent}{key}", value


def place_of(values: dict[str, Any], dotted: str) -> tuple[Any, str]:
    """The section that a dotted key is in, and its name there.

    >>> values = {"lora": {"r": 16}}
    >>> section, key = place_of(values, "lora.r")
    >>> section[key] = 8
    >>> values
    {'lora': {'r': 8}}

    Raises:
        KeyError: there is no such section.
    """
    *sections, key = dotted.split(".")
    return reduce(lambda section, name: section[name], sections, values), key


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark else problem


def show(value: Any) -> str:
    """A value on one line, as YAML has it: `true`, `null`, `"text"`; a long one is cut."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _first_problem(error: ValidationError, section: type[Section], values: dict[str, Any]) -> str:
    problems = error.errors(include_url=False)
    if not problems[0]["loc"]:
        return str(problems[0]["ctx"]["error"])
    # A misspelt key is unknown and missing at once: the unknown one says more.
    problem = next((p for p in problems if p["type"] in ("extra_forbidden", "invalid_key")), problems[0])
    path, schema = _schema_at(section, problem["loc"])
    name = ".".join(map(str, path))
    if problem["type"] == "invalid_key":
        key = ".".join([*map(str, path), show(problem["input"])])
        return f"{key}: not a text; allowed: {', '.join(schema['properties'])}"
    if problem["type"] == "extra_forbidden":
        key = ".".join(map(str, problem["loc"]))
        return f"{key} = {show(problem['input'])}: unknown key; allowed: {', '.join(schema['properties'])}"
    if problem["type"] == "missing":
        return f"{name}: missing; allowed: {describe(schema)}"
    value: Any = values
    for step in path:
        value = value[step]
    return f"{name} = {show(value)}: allowed: {describe(schema)}"


def _schema_at(section: type[Section], keys: tuple[int | str, ...]) -> tuple[list[int | str], dict[str, Any]]:
    """The longest path of `keys` that the section knows, without what lists of values and unions add; its schema."""
    root = section.model_json_schema()
    schema: dict[str, Any] = root
    path: list[int | str] = []
    for key in keys:
        entry = schema.get("items", {}) if isinstance(key, int) else {}
        if key not in schema.get("properties", {}) and "$ref" not in entry:
            break
        path.append(key)
        schema = entry or schema["properties"][key]
        if "$ref" in schema:
            schema = root["$defs"][schema["$ref"].split("/")[-1]]
    return path, schema


def describe(schema: dict[str, Any]) -> str:
    """Say in words what a JSON schema allows: `an integer from 1 to 1024`."""
    if "properties" in schema:
        return f"a section with the keys {', '.join(schema['properties'])}"
    if "description" in schema:
        return str(schema["description"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kind = schema["type"]
    if kind == "array":
        return f"a list that is not empty, each {describe(schema['items'])}"
    if kind == "boolean":
        return "true or false"
    if kind == "string":
        return "a text that is not empty"
    return f"{'an integer' if kind == 'integer' else 'a number'} {_bounds(schema)}".rstrip()


def _bounds(schema: dict[str, Any]) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f"from {schema['minimum']} to {schema['maximum']}"
    words = {"minimum": "of at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return " and ".join(f"{word} {schema[key]}" for key, word in words.items() if key in schema)
