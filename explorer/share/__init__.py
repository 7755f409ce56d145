"""The pages under Share: the game, and the methods and words."""
