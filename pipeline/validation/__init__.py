"""The stage validate: measures the data, checks it against expectations, and compares it with the champion's."""
