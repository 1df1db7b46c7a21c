"""Decoders in plain NumPy, float64, one row and one token at a time.

Written from the papers' equations alone, to hold `models/` to them: nothing here is fast and
nothing is imported from there. Parameters are read by their names in the model's tree. A row's
`segments` keep packed texts apart, and `positions` are each token's own, counted in its text.
"""

import math

import numpy as np


def gpt3(params, tokens, segments, positions, *, head_dim, band, epsilon=1e-5):
    """Brown et al. 2020, section 2.1: GPT-2 whose every second layer is banded."""
    embeddings = params["token_embedder"]["embedding"]
    x = embeddings[tokens] + params["position_embedder"]["embedding"][positions]
    for layer in layers(params["decoder"]["layers"]):
        for name, window in (("block_0", len(tokens)), ("block_1", band)):
            block = layer[name]
            h = layer_norm(x, block["self_attention_norm"], epsilon)
            x = x + attention(block["self_attention"], h, segments, head_dim, window=window)
            h = layer_norm(x, block["mlp_norm"], epsilon)
            x = x + affine(block["mlp"]["wo"], gelu(affine(block["mlp"]["wi"], h)))
    return layer_norm(x, params["final_norm"], epsilon) @ embeddings.T


def gopher(params, tokens, segments, positions, *, head_dim, epsilon=1e-6):
    """Rae et al. 2021, section 3.1, with the positions of Dai et al. 2019, section 3.3."""
    embeddings = params["token_embedder"]["embedding"]
    x = embeddings[tokens]
    for layer in layers(params["decoder"]["layers"]):
        part = layer["self_attention"]
        h = rms_norm(x, layer["self_attention_norm"], epsilon)

        def score(q, k, i, j, head, part=part, e=x.shape[1]):
            relative = part["relative"]
            u, v = relative["content_bias"][head], relative["distance_bias"][head]
            # R_{i-j}: sines and cosines of the distance, here interleaved.
            angles = (i - j) / 10000 ** (np.arange(0, e, 2) / e)
            r = np.stack([np.sin(angles), np.cos(angles)], axis=1).reshape(e)
            wr = (r @ relative["kernel"])[head * head_dim : (head + 1) * head_dim]
            # Terms a to d: q k + q W R + u k + v W R.
            return (q @ k + q @ wr + u @ k + v @ wr) / math.sqrt(head_dim)

        x = x + attention(part, h, segments, head_dim, score=score)
        h = rms_norm(x, layer["mlp_norm"], epsilon)
        x = x + affine(layer["mlp"]["wo"], gelu(affine(layer["mlp"]["wi"], h)))
    return rms_norm(x, params["final_norm"], epsilon) @ embeddings.T


def lamda(
    params, tokens, segments, positions, *, head_dim, num_buckets, max_distance, epsilon=1e-6
):
    """Thoppilan et al. 2022, section 3, on the parts of Raffel et al. 2020, section 2.1."""
    embeddings = params["token_embedder"]["embedding"]
    decoder = params["decoder"]
    table = decoder["relative_position_bias"]["embedding"]

    def score(q, k, i, j, head):
        # The first half of the buckets are distances 0, 1, 2, …; the others grow by a factor.
        exact, distance = num_buckets // 2, i - j
        bucket = distance
        if distance >= exact:
            grown = math.log(distance / exact) / math.log(max_distance / exact)
            bucket = min(exact + int(grown * (num_buckets - exact)), num_buckets - 1)
        return q @ k + table[bucket, head]

    x = embeddings[tokens]
    for layer in layers(decoder["stack"]["layers"]):
        h = rms_norm(x, layer["self_attention_norm"], epsilon)
        x = x + attention(layer["self_attention"], h, segments, head_dim, score=score)
        h = rms_norm(x, layer["mlp_norm"], epsilon)
        mlp = layer["mlp"]
        x = x + affine(mlp["wo"], gelu(affine(mlp["wi_0"], h)) * affine(mlp["wi_1"], h))
    x = rms_norm(x, decoder["final_norm"], epsilon)
    return x / math.sqrt(x.shape[1]) @ embeddings.T


def palm(params, tokens, segments, positions, *, head_dim, epsilon=1e-6):
    """Chowdhery et al. 2022, section 2: y = x + MLP(LayerNorm(x)) + Attention(LayerNorm(x))."""
    embeddings = params["token_embedder"]["embedding"]
    x = embeddings[tokens]
    for layer in layers(params["decoder"]["layers"]):
        h = layer_norm(x, layer["norm"], epsilon)
        mlp = layer["mlp"]
        gate = affine(mlp["wi_0"], h)
        hidden = gate / (1 + np.exp(-gate)) * affine(mlp["wi_1"], h)
        x = (
            x
            + affine(mlp["wo"], hidden)
            + attention(layer["self_attention"], h, segments, head_dim, rotary=positions)
        )
    x = layer_norm(x, params["final_norm"], epsilon)
    return x @ embeddings.T / math.sqrt(x.shape[1])


def sparse_transformer(
    params,
    tokens,
    segments,
    positions,
    *,
    head_dim,
    pattern,
    stride,
    summary,
    combination,
    epsilon=1e-5,
):
    """Child et al. 2019, sections 4.3 and 5: two parts of earlier tokens in three combinations."""

    def near(i, j):
        if pattern == "strided":
            return positions[i] - positions[j] <= stride
        return positions[i] // stride == positions[j] // stride

    def distant(i, j):
        if pattern == "strided":
            return (positions[i] - positions[j]) % stride == 0
        return positions[j] % stride >= stride - summary

    def merged(i, j, head):
        return near(i, j) or distant(i, j)

    def of_head(i, j, head):
        heads = len(blocks[0]["self_attention"]["query"]["bias"]) // head_dim
        return near(i, j) if head < heads // 2 else distant(i, j)

    stacked = params["decoder"]["layers"]
    if combination == "layers":
        kinds = [lambda i, j, _: near(i, j), lambda i, j, _: distant(i, j)]
        turns = list(layers(stacked))
        blocks = [turn[name] for turn in turns for name in ("block_0", "block_1")]
    else:
        kinds = [merged if combination == "merged" else of_head]
        blocks = list(layers(stacked))
    axes = params["position_embedder"]
    x = params["token_embedder"]["embedding"][tokens]
    x = x + axes["axis_0"][positions // len(axes["axis_1"])]
    x = x + axes["axis_1"][positions % len(axes["axis_1"])]
    for i, block in enumerate(blocks):
        h = layer_norm(x, block["self_attention_norm"], epsilon)
        sees = kinds[i % len(kinds)]
        a = attention(block["self_attention"], h, segments, head_dim, sees=sees)
        hidden = affine(block["mlp"]["wi"], layer_norm(x + a, block["mlp_norm"], epsilon))
        x = x + a + affine(block["mlp"]["wo"], hidden / (1 + np.exp(-1.702 * hidden)))
    return layer_norm(x, params["final_norm"], epsilon) @ params["output"]["kernel"]


def attention(part, x, segments, head_dim, *, window=None, rotary=None, score=None, sees=None):
    """Vaswani et al. 2017, equation 1, over the earlier tokens of the same text.

    Args:
      part: four projections; the keys' and values' may have fewer heads, each of which then
        serves as many heads of queries, in order.
      x: `[t, e]`.
      segments: which text each token belongs to.
      head_dim: units of a head.
      window: how many tokens a query sees at most, itself the last; None is all.
      rotary: positions by which queries and keys are turned.
      score: `(q, k, i, j, head)` of a query at slot i and a key at slot j; None is q k / √d.
      sees: `(i, j, head)`, whether a query at slot i sees a key at slot j not after it; None is
        always. One that sees nothing gets 0.
    """
    q, k = (affine(part[name], x).reshape(len(x), -1, head_dim) for name in ("query", "key"))
    v = affine(part["value"], x).reshape(len(x), k.shape[1], -1)
    if rotary is not None:
        q, k = rotate(q, rotary), rotate(k, rotary)
    heads, shared = q.shape[1], q.shape[1] // k.shape[1]
    found = np.zeros((*q.shape[:2], v.shape[2]))
    for i in range(len(x)):
        first = 0 if window is None else max(0, i - window + 1)
        text = [j for j in range(first, i + 1) if segments[j] == segments[i]]
        for head in range(heads):
            own = head // shared
            seen = [j for j in text if sees is None or sees(i, j, head)]
            if not seen:
                continue
            if score is None:
                scores = [q[i, head] @ k[j, own] / math.sqrt(head_dim) for j in seen]
            else:
                scores = [score(q[i, head], k[j, own], i, j, head) for j in seen]
            weights = np.exp(np.array(scores) - max(scores))
            found[i, head] = (weights / weights.sum()) @ v[seen, own]
    return affine(part["out"], found.reshape(len(x), -1))


def rotate(x, positions):
    """Su et al. 2021, equation 34, as products of complex numbers; unit i goes with i + d/2."""
    d = x.shape[-1]
    angles = np.outer(positions, 10000.0 ** (-np.arange(0, d, 2) / d))
    turned = (x[..., : d // 2] + 1j * x[..., d // 2 :]) * np.exp(1j * angles)[:, None]
    return np.concatenate([turned.real, turned.imag], axis=-1)


def layer_norm(x, part, epsilon):
    """Ba et al. 2016, equation 4; without a bias where there is none."""
    x = x - x.mean(axis=1, keepdims=True)
    return rms_norm(x, part, epsilon) + part.get("bias", 0.0)


def rms_norm(x, part, epsilon):
    """Zhang and Sennrich 2019, equation 4."""
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + epsilon) * part["scale"]


def affine(part, x):
    """`x W + c`; without c where there is none."""
    return x @ part["kernel"] + part.get("bias", 0.0)


def gelu(x):
    """Hendrycks and Gimpel 2016, section 2, the approximation by tanh."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layers(stacked):
    """The layers of a stack, whose parameters have the layer as their first axis."""
    if isinstance(stacked, dict):
        parts = {name: list(layers(part)) for name, part in stacked.items()}
        return [dict(zip(parts, layer, strict=True)) for layer in zip(*parts.values(), strict=True)]
    return list(stacked)
