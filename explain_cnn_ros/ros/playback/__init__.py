"""Parts of the player: the types of recorded messages, their publishers, and the schedule."""
