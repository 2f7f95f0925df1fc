#!/usr/bin/env node
// npm links commands when it installs, before anything is built: this file is there then.
import '../dist/cli.js';
