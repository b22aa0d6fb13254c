"""What scoring is made of: what a model is asked, how text becomes tokens, how answers become figures."""
