"""The benchmark: problem families, peers, an exact reference and one runner (``gpudiff bench``)."""
