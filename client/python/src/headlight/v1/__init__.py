"""The contract: messages and stubs of headlight.v1, made by make-stubs."""
