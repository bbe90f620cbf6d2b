"""How batches travel from stage to stage: one contract and what implements it.

`contract` is what a stage sees; `tcp`, `memory` and `rpc` are the backends that a plan names.
"""
