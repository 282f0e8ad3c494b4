// The present request as something to paste into a terminal.

import { procedure } from './api.js';

const GRPC = '127.0.0.1:50051'; // the server's default; a page cannot know where gRPC listens

const curl = (method, request) => `curl ${location.origin}/${procedure(method)} \\
  -H 'content-type: application/json' -H 'connect-protocol-version: 1' --data-binary @- <<'REQUEST'
${JSON.stringify(request)}
REQUEST
`;

const grpcurl = (method, request) => `grpcurl -plaintext -d @ ${GRPC} ${procedure(method)} <<'REQUEST'
${JSON.stringify(request)}
REQUEST
`;

function python(method, request) {
  const [service] = procedure(method).split('/');
  const name = service.split('.').at(-1);
  const module = name.replace(/Service$/, '').toLowerCase();
  return `import grpc
from google.protobuf import json_format
from headlight.v1 import ${module}_service_pb2 as pb
from headlight.v1 import ${module}_service_pb2_grpc as rpc

request = json_format.Parse(${JSON.stringify(JSON.stringify(request))}, pb.${method}Request())
answer = rpc.${name}Stub(grpc.insecure_channel("${GRPC}")).${method}(request)
print(answer)
`;
}

export const snippets = { curl, grpcurl, python };
