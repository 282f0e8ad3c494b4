// Sends golden requests to a Headlight server and compares its answers: node attend.js ADDRESS FILE...
import { readFileSync } from "node:fs";
import { credentials, loadPackageDefinition, status } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const definition = loadSync("headlight/v1/attention_service.proto", { includeDirs: ["../../../proto"], longs: Number });
const { AttentionService } = loadPackageDefinition(definition).headlight.v1;

function numbers({ f32Le, bf16Le, f32Values }) {
  if (f32Values) return f32Values.values.map(Number); // "-Infinity" is a text in JSON
  if (f32Le) return Array.from({ length: f32Le.length / 4 }, (_, i) => f32Le.readFloatLE(4 * i));
  const upper = (i) => Buffer.from([0, 0, bf16Le[2 * i], bf16Le[2 * i + 1]]); // half of a float32
  return Array.from({ length: bf16Le.length / 2 }, (_, i) => upper(i).readFloatLE());
}

function tensors({ output, logSumExp, headOutputs, maps = [] }) {
  return [output, logSumExp, headOutputs, ...maps.map((map) => map.weights)].filter(Boolean);
}

function isClose(got, want, tolerance) {
  const [a, b] = [numbers(got), numbers(want)];
  return (
    String(got.shape) === String(want.shape) &&
    a.length === b.length &&
    a.every((x, i) => x === b[i] || Math.abs(x - b[i]) <= tolerance)
  );
}

function answered(answer, { name, expected, tolerance }) {
  const [got, want] = [tensors(answer), tensors(expected)];
  console.log(`${name}: ${answer.execution.cpuTarget}, ${got.length} tensors, the first begins with`, numbers(got[0])[0]);
  return got.length === want.length && got.every((tensor, i) => isClose(tensor, want[i], tolerance));
}

// The message names every field. The same as data is in the trailer grpc-status-details-bin, a google.rpc.Status.
function refused(failure, { name, error }) {
  console.log(`${name}: ${status[failure.code]}, ${failure.details}`);
  return error?.code === status[failure.code] && error.fields.every((field) => failure.details.includes(field));
}

function check(client, golden) {
  return new Promise((resolve) => {
    client.Attend(golden.request, { deadline: Date.now() + 10_000 }, (failure, answer) =>
      resolve(failure ? refused(failure, golden) : Boolean(golden.expected) && answered(answer, golden)),
    );
  });
}

const [address, ...files] = process.argv.slice(2);
const client = new AttentionService(address, credentials.createInsecure(), {
  "grpc.service_config": readFileSync("../service_config.json", "utf8"),
  "grpc.max_receive_message_length": 256 << 20, // gRPC's own limit is 4 MiB
  "grpc.per_rpc_retry_buffer_size": 256 << 20,
  "grpc.dns_min_time_between_resolutions_ms": 1000,
});
let passed = 0;
for (const file of files) passed += await check(client, JSON.parse(readFileSync(file, "utf8")));
client.close();
const good = passed === files.length && passed > 0;
console.log(`golden check ${good ? "passed" : "failed"}: ${passed} of ${files.length}`);
process.exitCode = good ? 0 : 1;
