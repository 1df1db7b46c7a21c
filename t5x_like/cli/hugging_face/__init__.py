"""Commands that read and write the files of Hugging Face."""
