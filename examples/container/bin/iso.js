#!/usr/bin/env -S node --
// Without the two dashes Node takes --env-file for its own, wherever it stands: it would load a container's variables itself.
// npm links commands when it installs, before anything is built: this file is there then.
import '../dist/cli.js';
