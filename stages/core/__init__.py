"""What every package builds on: errors for users, parameters, paths of artefacts, whole writes.

It imports no other package. No stage depends on errors, params and paths: they shape no output.
Start at `params`, which explains every setting of params.yaml.
"""
