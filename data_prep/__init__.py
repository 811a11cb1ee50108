"""From the official download to a prepared dataset: one file per dataset, over shared parts.

Nothing here imports training code; `drcli.data.format` is what both share, `drcli.names` the list of datasets.
"""
