"""Messages to tokens: template, encoding with loss weights, batches. tokenizers and jinja2 only."""
