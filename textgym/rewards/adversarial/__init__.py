"""A discriminator that learns along with the policy, as a reward."""
