"""Reads what `drcli prepare` wrote: `format` names the files, `prepared` opens and checks them."""
