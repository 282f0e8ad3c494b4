"""A client to be killed: `rude_client.py upload|download HOST:PORT`, the request on stdin. Says "began" when it did."""

import struct
import sys
import time

import h2.events
from raw_http2 import RawConnection

ATTEND = "/headlight.v1.AttentionService/Attend"
MOST = 100 << 20


def main(what: str, address: str) -> None:
    body = sys.stdin.buffer.read()
    with RawConnection(address) as connection:
        stream = connection.open(ATTEND)
        connection.flush()
        if what == "upload":
            # A message that is announced larger than all that comes.
            connection.send(stream, struct.pack(">BI", 0, MOST) + body[: 1 << 20])
            print("began", flush=True)
            while True:
                connection.send(stream, body)
        connection.send(stream, struct.pack(">BI", 0, len(body)) + body)
        connection.http.end_stream(stream)
        connection.flush()
        connection.wait_for(h2.events.DataReceived, seconds=60)
        print("began", flush=True)
        while True:
            connection.http.increment_flow_control_window(1 << 16)
            connection.http.increment_flow_control_window(1 << 16, stream)
            connection.flush()
            connection.read(1)
            time.sleep(0.02)  # so that it is killed long before the end


if __name__ == "__main__":
    main(*sys.argv[1:])
