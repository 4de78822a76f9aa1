"""From a text that the project has not seen to the params that suit it: the logic of `charlm new`."""
