"""Table 3: models and how they are pre-trained, a column for each."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.models import Models
from overtrain.figures.kind import Catalogue, Data, Table


class Pretraining(Models, Table):
    """Parameters are counted from the shapes that are built."""

    content: Literal["pretraining"]

    def printed(self, catalogue: Catalogue) -> dict:
        models = catalogue.names("models", self.models)
        settings = {name: catalogue.settings.models[name].plain() for name in models}
        shown = ("title", "architecture", "budgets", "seeds")
        return super().printed(catalogue) | {
            "models": models,
            "model_settings": {n: {key: own[key] for key in shown} for n, own in settings.items()},
            "pretraining": catalogue.settings.pretraining.plain(),
        }

    @staticmethod
    def tabulate(data: None, settings: dict) -> Data:
        import pandas as pd

        from overtrain.model.architecture import Architecture

        p = settings["pretraining"]
        columns = {}
        for name in settings["models"]:
            model = settings["model_settings"][name]
            a = Architecture(**model["architecture"])
            counts = a.parameter_counts()
            columns[model["title"]] = {
                "Layers": a.layers,
                "Heads": a.heads,
                "Unique tokens": a.vocabulary,
                "Hidden dimension": a.hidden_size,
                "MLP dimension (each matrix)": a.mlp_size,
                "Context length": a.context,
                "Parameters, total": f"{counts['total']:,}",
                "Parameters, non-embedding": f"{counts['non_embedding']:,}",
                "Activation": "SwiGLU",
                "muP base width": a.base_width or "standard parameterisation",
                "Attention dropout": p["dropout"]["attention"],
                "Residual dropout": p["dropout"]["residual"],
                "Embedding dropout": p["dropout"]["embedding"],
                "Optimizer": "AdamW",
                "Learning rate": f"{p['learning_rate']:g}",
                "Betas": ", ".join(f"{b:g}" for b in p["betas"]),
                "Schedule": "cosine to zero",
                "Warm-up": f"{p['warmup']:.0%} of training",
                "Weight decay": p["weight_decay"],
                "Batch size (windows)": p["batch_size"],
                "Token budgets": ", ".join(model["budgets"]),
                "Pre-training seeds": len(model["seeds"]),
            }
        return pd.DataFrame(columns).rename_axis("Hyperparameter")
