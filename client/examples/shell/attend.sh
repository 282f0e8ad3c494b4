#!/usr/bin/env bash
# Sends golden requests to a Headlight server and compares its answers:
# attend.sh grpcurl|buf|curl HOST:PORT FILE...   (the port of gRPC; for curl that of HTTP)
set -euo pipefail
cd "$(dirname "$0")"

# The request is on standard input, the answer or the error goes to standard output, as JSON.
attend() {
  local method=headlight.v1.AttentionService/Attend
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

check() {
  local answer
  echo -n "$(jq -r .name "$3"): "
  answer=$(jq .request "$3" | attend "$1" "$2") || [[ -n $answer ]] || { echo "no answer from $2" && return 1; }
  if jq -e .execution <<<"$answer" >/dev/null 2>&1; then answered "$answer" "$3"; else refused "$answer" "$3"; fi
}

tool=$1 address=$2 passed=0
shift 2
for file; do if check "$tool" "$address" "$file"; then passed=$((passed + 1)); fi; done
verdict=failed
((passed < $# || passed == 0)) || verdict=passed
echo "golden check $verdict: $passed of $#"
[[ $verdict == passed ]]
