#!/bin/sh
# Makes the stubs in headlight/. The contract names no Go package, so protoc is told one for each file.
set -eu
cd "$(dirname "$0")"
GOBIN=$PWD/bin go install tool
set -- attention_service options outputs tensor
mkdir -p headlight
options=''
for file; do options="$options --go_opt=Mheadlight/v1/$file.proto=example/headlight --go-grpc_opt=Mheadlight/v1/$file.proto=example/headlight"; done
for file; do
  # shellcheck disable=SC2086 # words
  PATH=$PWD/bin:$PATH protoc -I ../../../proto $options --go_opt=module=example --go_out=. \
    --go-grpc_opt=module=example --go-grpc_out=. "headlight/v1/$file.proto"
done
