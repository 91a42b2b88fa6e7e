"""Training in stages: what each stage learns (`stages`) and the loop that runs any of them."""
