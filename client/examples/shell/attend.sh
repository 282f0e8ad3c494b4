#!/usr/bin/env bash
# Sends golden requests to a Headlight server and compares its answers:
# attend.sh grpcurl|buf|curl HOST:PORT FILE...   (the port of gRPC; for curl that of HTTP)
set -euo pipefail
cd "$(dirname "$0")"

# The third argument is the method. The request is on standard input, a stream's one after the other; the answer or the
# error goes to standard output, as JSON.
call() {
  local method=headlight.v1.AttentionService/$3
  case $1 in
    grpcurl) grpcurl -plaintext -max-time 10 -max-msg-sz $((256 << 20)) -d @ "$2" "$method" | camel ;;
    buf) timeout 10 buf curl --schema ../../../proto --protocol grpc --http2-prior-knowledge -d @- "http://$2/$method" ;;
    curl) curl -s --max-time 10 -H 'content-type: application/json' -d @- "http://$2/$method" ;;
    *) echo "attend.sh grpcurl|buf|curl HOST:PORT FILE..." ;;
  esac 2>&1
}

# Newer grpcurls name fields as the contract does: log_sum_exp becomes logSumExp.
camel() { sed -E ':again; s/^( *"[A-Za-z0-9]*)_([a-z])/\1\u\2/; t again'; }

# The tensors of an answer, one a line.
tensors() { jq -c '[.output, .logSumExp, .headOutputs, .maps[]?.weights][] | select(.)'; }

# A tensor's shape and numbers, one a line. bfloat16 is the upper half of a float32.
numbers() {
  jq -r '"shape \(.shape | map(tonumber))", .f32Values.values[]?' <<<"$1"
  jq -rj '.f32Le // ""' <<<"$1" | base64 -d | od -An -v -w4 -t f4
  # shellcheck disable=SC2059 # the bytes are the format
  printf "$(jq -rj '.bf16Le // ""' <<<"$1" | base64 -d | od -An -v -w2 -t x1 | sed 's/ /\\x/g; s/^/\\0\\0/' | tr -d '\n')" |
    od -An -v -w4 -t f4
}

# Whether two tensors, line by line, are the same shape and numbers but for the tolerance.
is_close() {
  paste <(numbers "$1") <(numbers "$2") | awk -F '\t' -v tolerance="$3" '
    { gsub(/ /, ""); got = substr(tolower($1), 1, 4); want = substr(tolower($2), 1, 4); distance = $1 - $2 }
    NR == 1 || got ~ /inf|nan/ || want ~ /inf|nan/ || $1 == "" || $2 == "" { if (NR == 1 ? $1 != $2 : got != want) exit 1; next }
    distance > tolerance || -distance > tolerance { exit 1 }'
}

answered() {
  local got want i
  mapfile -t got < <(tensors <<<"$1")
  ((${#got[@]} > 0)) || { echo "no tensors" && return 1; }
  mapfile -t want < <(jq .expected "$2" | tensors)
  echo "${#got[@]} tensors, the first of shape $(jq -c .shape <<<"${got[0]}")"
  ((${#got[@]} == ${#want[@]})) || return 1
  for i in "${!got[@]}"; do is_close "${got[i]}" "${want[i]}" "$(jq .tolerance "$2")" || return 1; done
}

# Each tool has its own words; all of them name the code and the fields.
refused() {
  local word
  echo "$1"
  jq -e .error "$2" >/dev/null || return 1
  for word in $(jq -r '.error | .code, .fields[]' "$2"); do
    grep -qiF "${word//_/}" <<<"${1//_/}" || return 1
  done
}

# What a stream takes: the call without its tensors' bytes, those in chunks, a commit. A chunk of 128 letters of base64 is 96
# bytes, many for a small tensor, to show it; send 1398100, which are just below 1 MiB, the most that is allowed.
parts() {
  jq '
    .request | .queryKeyValue as $given |
    {header: {call: {queryKeyValue: ($given | map_values({shape, kind: "TENSOR_KIND_F32"})), options, outputs}}},
    ("query", "key", "value" | . as $name | $given[$name].f32Le | range(0; length; 128) as $at |
      {chunk: {tensor: "STREAMED_TENSOR_\($name | ascii_upcase)", offset: ($at / 4 * 3), data: .[$at:$at + 128]}}),
    {commit: {}}' "$1"
}

# Puts a streamed output together, whose chunks come in any order, and compares it with that of the answer $3.
streamed() {
  local messages output data same=false
  messages=$(parts "$4" | call "$1" "$2" AttendStream) || { echo "$messages" && return 1; }
  output=$(jq -rs 'map(.chunk | select(.)) | sort_by(.offset // 0 | tonumber)[].data' <<<"$messages" |
    while read -r data; do base64 -d <<<"$data"; done | base64 -w 0)
  [[ $output != "$(jq -r .output.f32Le <<<"$3")" ]] || same=true
  echo "$(jq -r .name "$4"): streamed, the same bits: $same"
  [[ $same == true ]]
}

check() {
  local answer
  echo -n "$(jq -r .name "$3"): "
  answer=$(jq .request "$3" | call "$1" "$2" Attend) || [[ -n $answer ]] || { echo "no answer from $2" && return 1; }
  jq -e .execution <<<"$answer" >/dev/null 2>&1 || { refused "$answer" "$3"; return; }
  answered "$answer" "$3" || return
  # The HTTP port answers no streams. One golden gives Q, K and V as bytes.
  [[ $1 == curl ]] || ! jq -e .request.queryKeyValue.query.f32Le "$3" >/dev/null || streamed "$1" "$2" "$answer" "$3"
}

tool=$1 address=$2 passed=0
shift 2
for file; do if check "$tool" "$address" "$file"; then passed=$((passed + 1)); fi; done
verdict=failed
((passed < $# || passed == 0)) || verdict=passed
echo "golden check $verdict: $passed of $#"
[[ $verdict == passed ]]
