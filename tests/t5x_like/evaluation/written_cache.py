"""What `t5x-like cache` makes of a task, without importing TensorFlow, which takes seconds."""

import numpy as np

from t5x_like.data.cache import layout
from t5x_like.data.cache.example_proto import encode_example
from t5x_like.data.cache.tfrecord import write_records

KEPT = {"integer": ([], "int32"), "integers": ([None], "int32"), "number": ([], "float32"),
        "text": ([], "string"), "texts": ([None], "string")}  # fmt: skip


def write_cache(task, cache_dir):
    folder = layout.cache_path(cache_dir, task.cache_name)
    folder.mkdir(parents=True)
    kinds = {}
    for split in task.splits:
        records = []
        for example in task.examples(split):
            written = {}
            for name in task.cached_features:
                text = example[name]
                ids = task.tokenized(name, text)
                kinds |= {one: ([None], "int32") for one in ids}
                written |= ids
                if "inputs" not in task.form.features:  # the text of documents is not kept
                    continue
                kinds[f"{name}_pretokenized"] = ([] if isinstance(text, str) else [None], "string")
                texts = text if isinstance(text, str) else [one.encode() for one in text]
                written[f"{name}_pretokenized"] = texts
            for name, kind in task.form.kept.items():
                kinds[name] = KEPT[kind]
                value = example[name]
                if kinds[name][1] != "string":
                    value = np.array(value, kinds[name][1])
                elif kind == "texts":
                    value = [one.encode() for one in value]
                written[name] = value
            records.append(encode_example(written))
        write_records(layout.shard_path(folder, split, 0, 1), records)
        features = {name: {"shape": s, "dtype": d} for name, (s, d) in kinds.items()}
        layout.write_json(layout.info_path(folder, split), {"num_shards": 1, "features": features})
        layout.write_json(layout.stats_path(folder, split), {"examples": len(records)})
    first, output = next(iter(task.output_features.items()))
    feature = {
        "dtype": "int32",
        "rank": 1,
        "add_eos": False,
        "vocabulary": output.vocabulary.spec(),
    }
    description = {"features": {first: feature}, "fingerprint": task.fingerprint()}
    layout.write_json(layout.task_path(folder), description)
    (folder / layout.COMPLETED).touch()
