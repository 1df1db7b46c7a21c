"""Commands that go once through the text or the tokens of a task and count."""
