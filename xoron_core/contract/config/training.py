"""How training goes: the reference's `TrainingConfig` and the sections around it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from xoron_core.contract.config.components import ComponentName
from xoron_core.contract.config.section import FieldValueError, Section


class TrainingConfig(Section):
    """Optimizer, schedule, precision, length, and what happens every how many steps."""

    batch_size: int = Field(1, ge=1)
    """Samples (text: packed rows) in each process's micro-batch, where the modality does not set its own."""
    gradient_accumulation_steps: int = Field(16, ge=1)
    """Micro-batches in an optimizer step."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate."""
    component_lr_ratios: dict[ComponentName, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Factors of the learning rate of single components, such as encoders that are to move more slowly; else 1."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay; norms, biases and embeddings have none."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the first moment."""
    adam_beta2: float = Field(0.95, ge=0, lt=1)
    """Decay of the second moment."""
    num_epochs: int = Field(1, ge=1)
    """Times that every source is exhausted."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps at which the run is complete, whatever the epochs; null: epochs decide."""
    lr_schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """Course of the learning rate after the warm-up; `wsd`: it stays, and falls linearly at the end only."""
    warmup_ratio: float = Field(0.05, ge=0, le=1)
    """Share of the steps in which the learning rate rises from zero."""
    decay_ratio: float = Field(0.2, gt=0, le=1)
    """Share of the steps, the last ones, in which `wsd` lowers the learning rate."""
    min_lr_ratio: float = Field(0.0, ge=0, le=1)
    """Where the schedule ends, as a share of the peak."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this norm."""
    max_seq_length: int = Field(1024, ge=8)
    """Tokens in a packed row; longer documents are split."""
    seed: int = Field(0, ge=0)
    """Decides initial weights, order of the data, noise and times."""
    bf16: bool = True
    """Mixed precision with bfloat16 where the device has it (never on the CPU)."""
    fp16: bool = False
    """Mixed precision with float16 and loss scaling."""
    model_dtype: Literal["float32", "float16"] = "float32"
    """What the weights are kept in. `float16`: the optimizer keeps weights and moments in float32, nothing is scaled,
    and `bf16` and `fp16` change nothing."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: less memory, more time."""
    checkpointed_components: tuple[ComponentName, ...] | None = None
    """The components that `gradient_checkpointing` is for; null: all that have layers."""
    frozen_components: tuple[ComponentName, ...] = ()
    """Components that are not trained."""
    torch_compile: bool | None = None
    """Compile layers on their own: true: those of all components; null: the language model's, on a GPU."""
    use_8bit_optimizer: bool = True
    """Keep AdamW's moments in 8 bits (bitsandbytes)."""
    set_to_none: bool = True
    """Free gradients after a step instead of zeroing them."""
    empty_cache_freq: int = Field(100, ge=0)
    """Steps between returns of unused GPU memory to the driver; 0: never."""
    max_nonfinite: int = Field(5, ge=0)
    """Steps in a row that may be skipped for a loss or gradient that is not a number."""
    logging_steps: int = Field(50, ge=1)
    """Optimizer steps between metrics."""
    eval_steps: int | None = Field(None, ge=1)
    """Optimizer steps between evaluations; null: at the end of an epoch only."""
    save_steps: int | None = Field(500, ge=1)
    """Optimizer steps between checkpoints; null: at the end only."""
    sample_steps: int | None = Field(None, ge=1)
    """Optimizer steps between samples; null: only when asked."""

    @model_validator(mode="after")
    def _one_precision(self) -> "TrainingConfig":
        if self.bf16 and self.fp16:
            raise ValueError("bf16 and fp16 are both true; set one of them to false")
        return self

    @model_validator(mode="after")
    def _masters_are_float32(self) -> "TrainingConfig":
        if self.model_dtype == "float16" and self.use_8bit_optimizer:
            raise FieldValueError(
                "use_8bit_optimizer",
                "is true, and keeps no float32 weights, which training.model_dtype 'float16' needs; set "
                "training.use_8bit_optimizer to false, or training.model_dtype to 'float32'",
            )
        return self

    @model_validator(mode="after")
    def _warm_up_ends_before_the_decay(self) -> "TrainingConfig":
        if self.lr_schedule == "wsd" and self.warmup_ratio + self.decay_ratio > 1:
            raise FieldValueError(
                "decay_ratio",
                f"training.warmup_ratio {self.warmup_ratio} and training.decay_ratio {self.decay_ratio} are more than "
                "all of the steps together; lower one of them",
            )
        return self


class EvaluationConfig(Section):
    """Held-out evaluation, repeatable: its noise and times come from a seed of its own."""

    max_per_dataset_eval: int = Field(10, ge=1)
    """Rows taken from each source's held-out split."""
    seed: int = Field(1234, ge=0)
    """Decides evaluation's noise and times, the same at every evaluation."""
    shuffled: bool = True
    """Also evaluate every row with the picture, clip, sound or caption of another: what does not make the loss worse
    is not looked at."""


class CheckpointConfig(Section):
    """Retention of checkpoints."""

    keep_last: int = Field(3, ge=2)
    """Newest checkpoints that are kept."""
    keep_every: int | None = Field(None, ge=1)
    """Those of every so many steps are kept, too; null: none of them."""
    keep_best: bool = True
    """Write a checkpoint whenever an evaluation is better than all before it, and keep the newest of these, too."""
    best_metric: str = "eval/loss"
    """What better means: the metric of an evaluation that is to fall; `eval/loss` is the mean of all modalities'
    losses."""


class HubConfig(Section):
    """Checkpoints on the Hugging Face hub; the token is that of `HF_TOKEN` or `hf auth login`."""

    repo_id: str | None = Field(None, pattern=r"^[\w.-]+(/[\w.-]+)?$")
    """Repository that they go to; null: none does."""
    every: int = Field(1, ge=1)
    """Every so-manieth checkpoint goes there, and the last one."""
    private: bool = True
    """Whether a repository that is made for it is private."""


class TroubleConfig(Section):
    """What is done when things go wrong, and how often by itself. Counts are since a person last started or resumed the
    run; the same failure at the same step with nothing changed is never tried a third time."""

    stop_grace_s: float = Field(60.0, gt=0)
    """Seconds from a stop request until SIGTERM."""
    term_grace_s: float = Field(15.0, gt=0)
    """Seconds from SIGTERM until SIGKILL."""
    min_free_disk_gib: float = Field(0.5, ge=0)
    """Free space on the run's disk below which no run is started, and training waits for room."""
    max_restarts: int = Field(3, ge=0)
    """Times that training goes on from the last checkpoint after a crash."""
    restart_delay_s: float = Field(1.0, ge=0, le=3600)
    """Seconds before the first of those; doubled with each further one, up to five minutes."""
    max_memory_retries: int = Field(4, ge=0)
    """Times that it goes on with smaller micro-batches, accumulated more often, after memory ran out."""
    max_rollbacks: int = Field(2, ge=0)
    """Times that it goes back before steps that were not finite and leaves their samples out."""
    hang_after_s: float = Field(1800.0, gt=0)
    """Seconds without a sign of life after which the trainer counts as hung: its stacks are dumped, it is restarted."""
    max_hangs: int = Field(2, ge=0)
    """Times that it goes on from the last checkpoint after a hang."""
    max_interruptions: int = Field(3, ge=0)
    """Times that the server resumes it after its keeper was killed or the machine went down; 0: it waits for a
    person."""


class ResourcesConfig(Section):
    """What the run is given."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    gpus: int | None = Field(None, ge=1)
    """GPUs that it waits for, one for each process; null: as many as `processes`."""
    processes: int | None = Field(None, ge=1)
    """Ranks, each of which trains on its own part of every batch; null: one for each GPU, one on a CPU."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of torch (they change the order of sums); null: one for each core."""

    @model_validator(mode="after")
    def _a_gpu_for_each_process(self) -> "ResourcesConfig":
        if self.device == "cpu" and self.gpus is not None:
            raise ValueError(f"resources.gpus is {self.gpus} and resources.device is 'cpu'; leave one of them out")
        if None not in {self.gpus, self.processes} and self.gpus != self.processes:
            raise ValueError(
                f"resources.gpus {self.gpus} and resources.processes {self.processes} differ; each process has one GPU"
            )
        return self

    @property
    def num_processes(self) -> int:
        """Ranks."""
        return self.processes or self.gpus or 1

    def num_gpus(self, *, host_has_gpus: bool) -> int:
        """GPUs to lease on a host with or without any."""
        wants_gpus = self.device == "cuda" or self.gpus is not None or (self.device == "auto" and host_has_gpus)
        return self.num_processes if wants_gpus else 0
