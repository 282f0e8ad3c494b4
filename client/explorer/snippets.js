// The present request as something to paste into a terminal. A token is named, never shown.

import { hasToken, procedure } from './api.js';

// Where gRPC listens by default; a page cannot know of another port.
const grpc = () => `${location.hostname}:50051`;
const PORT = '# gRPC at its default port: --listen of the server may say another.\n';
const isSecure = () => location.protocol === 'https:';
const HINT = '# The token of the server stands in the environment, as HEADLIGHT_TOKEN.\n';
const HEADER = `-H "authorization: Bearer $HEADLIGHT_TOKEN" `;
const header = () => (hasToken() ? HEADER : '');
const hint = () => (hasToken() ? HINT : '');

const curl = (method, request) => `${hint()}curl ${location.origin}/${procedure(method)} ${header()}\\
  -H 'content-type: application/json' -H 'connect-protocol-version: 1' --data-binary @- <<'REQUEST'
${JSON.stringify(request)}
REQUEST
`;

const grpcurl = (
  method,
  request,
) => `${PORT}${hint()}grpcurl ${isSecure() ? '' : '-plaintext '}${header()}-max-msg-sz 268435456 -d @ ${grpc()} ${procedure(method)} <<'REQUEST'
${JSON.stringify(request)}
REQUEST
`;

function python(method, request) {
  const [service] = procedure(method).split('/');
  const name = service.split('.').at(-1);
  const module = name.replace(/Service$/, '').toLowerCase();
  const credentials = isSecure() ? ', grpc.ssl_channel_credentials()' : '';
  const metadata = hasToken() ? ', metadata=[("authorization", f"Bearer {os.environ[\'HEADLIGHT_TOKEN\']}")]' : '';
  return `${PORT}${hint()}${hasToken() ? 'import os\n\n' : ''}import grpc
from google.protobuf import json_format
from headlight.v1 import ${module}_service_pb2 as pb
from headlight.v1 import ${module}_service_pb2_grpc as rpc

request = json_format.Parse(${JSON.stringify(JSON.stringify(request))}, pb.${method}Request())
limits = [("grpc.max_receive_message_length", -1)]  # gRPC's own is 4 MiB
channel = grpc.${isSecure() ? 'secure' : 'insecure'}_channel("${grpc()}"${credentials}, options=limits)
print(rpc.${name}Stub(channel).${method}(request${metadata}))
`;
}

export const snippets = { curl, grpcurl, python };
