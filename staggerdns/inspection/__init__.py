"""What is shown of a program that runs: upstreams, answers in the cache, why an answer is so."""
