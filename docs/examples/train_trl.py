"""Fine-tune the champion with TRL. It knows nothing of driftloop but the folders that its arguments name."""

import argparse
import json
from pathlib import Path

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

parser = argparse.ArgumentParser()
for name in ("data", "base", "out", "checkpoints", "seed"):
    parser.add_argument(f"--{name}", required=True)
asked = parser.parse_args()


class Say(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **kwargs):
        numbers = {name: value for name, value in (logs or {}).items() if isinstance(value, float)}
        print(json.dumps({"step": state.global_step, "steps": state.max_steps, **numbers}), flush=True)


rows = load_dataset("json", data_files=f"{asked.data}/train.jsonl", split="train", cache_dir=asked.checkpoints)
rows = rows.map(lambda row: {"text": row["prompt"] + row["completion"]}, remove_columns=["prompt", "completion"])
model = AutoModelForCausalLM.from_pretrained(asked.base, dtype="float32")
plan = SFTConfig(
    output_dir=asked.checkpoints, seed=int(asked.seed), save_steps=50, save_total_limit=2, num_train_epochs=6,
    learning_rate=2e-3, lr_scheduler_type="cosine", warmup_steps=20, per_device_train_batch_size=8,
    max_length=getattr(model.config, "max_position_embeddings", 1024),
    bf16=False, logging_steps=10, report_to="none", disable_tqdm=True,
)  # fmt: skip
tokenizer = AutoTokenizer.from_pretrained(asked.base)
trainer = SFTTrainer(model, args=plan, train_dataset=rows, processing_class=tokenizer, callbacks=[Say()])
trainer.train(resume_from_checkpoint=any(Path(asked.checkpoints).glob("checkpoint-*")))
trainer.save_model(asked.out)
