"""The whole of ANB Video on one machine: emulator, API and workers as children of one supervisor."""
