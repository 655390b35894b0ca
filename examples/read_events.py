"""Reads the log of a run, `events.jsonl`, as a table.

python examples/read_events.py RUN_FOLDER
"""

import sys
from pathlib import Path

import pandas as pd


def epochs(run: Path) -> pd.DataFrame:
    """The epochs of a run, one a row, with the health of every level as columns such as `level_0.utilization`."""
    log = pd.read_json(run / "events.jsonl", lines=True)
    rows = log[log["event"] == "VQEpochMetrics"].dropna(axis=1, how="all").reset_index(drop=True)
    health = pd.json_normalize(rows["codebook_health"].tolist())
    return rows.drop(columns="codebook_health").join(health).set_index("epoch")


if __name__ == "__main__":
    table = epochs(Path(sys.argv[1]))
    print(table[["train_loss", "val_loss", "val_recon_loss", "level_0.utilization"]])
    print(f"lowest in epoch {table['val_recon_loss'].idxmin()}")
