"""Layers that the model families are composed of: small, pure, one subject a file.

Array names end in their axes where a function handles more than one layout. One letter
an axis:

| letter | axis | logical name |
|---|---|---|
| `b` | batch, rows of tokens | `batch` |
| `t` | positions of the queries, or of the only sequence there is | `length` |
| `s` | positions of the keys and values | `length` |
| `e` | residual stream (d_model) | `embed` |
| `f` | hidden units of an MLP (d_ff), units of a recurrent layer | `mlp` |
| `q` | gates of a recurrent cell | |
| `h` | attention heads | `heads` |
| `g` | heads of keys and values; divides `h` | `heads` |
| `r` | query heads that share one head of keys and values, `h = g r` | |
| `d` | units of one head | `kv` |
| `v` | vocabulary | `vocab` |
| `n` | rows of a table | `relpos_buckets`, `positions`, `characters` |
| `w` | words of all rows | |
| `l` | layers of a scanned stack, always the first axis | `layers` |
| `x` | experts | `expert` |
| `k` | experts that a token chooses, the best first | |
| `p`, `m` | groups of tokens with a capacity of their own; tokens of a group | |
| `c` | slots of an expert | |

`joined_kv` is the axis `h d` of a projection to or from all heads, `joined_shared_kv` the axis
`g d` of one to keys and values that several heads of queries share.
"""
