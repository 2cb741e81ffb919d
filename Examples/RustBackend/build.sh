#!/bin/sh
# Builds rust-backend.so beside this file, with rustc alone.
set -eu
cd "$(dirname "$0")"
# rustc itself writes the version script that exports #[no_mangle] functions alone.
rustc --edition 2021 --crate-type cdylib -C opt-level=2 -C strip=symbols \
  -C link-arg=-Wl,-z,defs -C link-arg=-Wl,-z,nodelete -o rust-backend.so.tmp plugin.rs
mv rust-backend.so.tmp rust-backend.so
