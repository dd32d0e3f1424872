"""What is done with models: propose, segment many files, evaluate, measure speed."""
