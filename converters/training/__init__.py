"""What fine-tuning is made of: labelled frames, splits, a recipe, augmentation, the loop's state, curves."""
