"""The settings of PEFT and TRL that params.yaml stands for."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig
from transformers import PreTrainedModel
from trl import SFTConfig

from stages.core.params import Params
from stages.layers.lora_linear import use_lora_linear
from stages.models.adapter_files import rank_pattern, target_modules


def lora_config(params: Params, model: PreTrainedModel) -> LoraConfig:
    """PEFT's settings for this run."""
    lora = params.lora
    targets = target_modules(lora.target_modules, model)
    return use_lora_linear(
        LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=targets,
            use_rslora=lora.use_rslora,
            use_dora=lora.use_dora,
            rank_pattern=rank_pattern(lora.rank_pattern, targets, model),
            task_type="CAUSAL_LM",
        )
    )


def sft_config(params: Params, run: Path, eval_steps: int, dtype: torch.dtype, *, measured: bool = True) -> SFTConfig:
    """TRL's settings for this run.

    Args:
        eval_steps: steps between checkpoints.
        dtype: the one that the base model computes in.
        measured: each checkpoint is evaluated on dev, and the best of them is the result; else the last is.
    """
    train = params.train
    device = torch.cuda.current_device() if torch.cuda.is_available() else None
    config = SFTConfig(
        output_dir=str(run),
        seed=params.seed,
        num_train_epochs=train.epochs,
        learning_rate=train.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=train.warmup_ratio,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        optim=train.optimizer,
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=train.batch_size,
        gradient_checkpointing=False,  # the plan says which layers are recomputed
        neftune_noise_alpha=train.neftune_noise_alpha or None,
        # The base is loaded in its compute dtype and PEFT casts at the adapter, so autocast has nothing to add;
        # float16 needs it for loss scaling.
        bf16=False,
        fp16=dtype is torch.float16,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if measured else "no",
        eval_steps=eval_steps,
        prediction_loss_only=True,
        save_strategy="steps",
        save_steps=eval_steps,
        save_total_limit=train.save_total_limit,
        load_best_model_at_end=measured,
        # Early stopping goes on counting where an interrupted training left off.
        restore_callback_states_from_checkpoint=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        router_aux_loss_coef=0.0,  # routers are frozen, and the loss is that of the summaries
        report_to="none",
        disable_tqdm=False,  # else its logger's level, see QUIET, would say so
    )
    # A process trains on the GPU that is its own; transformers would take the first, and copy the model to all others.
    config._n_gpu = min(config.n_gpu, 1)
    if device is not None:
        torch.cuda.set_device(device)
        config.__dict__["_setup_devices"] = torch.device("cuda", device)
    return config
