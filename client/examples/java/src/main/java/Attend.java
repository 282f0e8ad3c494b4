import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.BadRequest;
import headlight.v1.AttentionServiceGrpc;
import headlight.v1.AttentionServiceOuterClass.AttendRequest;
import headlight.v1.AttentionServiceOuterClass.AttendResponse;
import headlight.v1.AttentionServiceOuterClass.AttendStreamCommit;
import headlight.v1.AttentionServiceOuterClass.AttendStreamRequest;
import headlight.v1.AttentionServiceOuterClass.AttendStreamResponse;
import headlight.v1.AttentionServiceOuterClass.QueryKeyValue;
import headlight.v1.AttentionServiceOuterClass.StreamedTensor;
import headlight.v1.TensorOuterClass.Tensor;
import headlight.v1.TensorOuterClass.TensorKind;
import headlight.v1.TensorOuterClass.TensorSpec;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;

/** Sends golden requests to a Headlight server and compares its answers: Attend ADDRESS FILE... */
public class Attend {
  private static final Gson GSON = new Gson();
  private static final int MOST_BYTES = 256 << 20; // gRPC's own limit is 4 MiB
  // Many for a small tensor, to show it; send 1 MiB, the most that is allowed.
  private static final int CHUNK_BYTES = 128;

  private record Golden(
      String name, JsonElement request, JsonElement expected, double tolerance, Refusal error) {}

  private record Refusal(String code, List<String> fields) {}

  private static double[] numbers(Tensor tensor) {
    if (tensor.hasF32Values()) {
      return tensor.getF32Values().getValuesList().stream().mapToDouble(x -> x).toArray();
    }
    int size = tensor.hasBf16Le() ? 2 : 4; // bfloat16 is the upper half of a float32
    ByteBuffer bytes = (size == 2 ? tensor.getBf16Le() : tensor.getF32Le()).asReadOnlyByteBuffer();
    bytes.order(ByteOrder.LITTLE_ENDIAN);
    double[] values = new double[bytes.remaining() / size];
    for (int i = 0; i < values.length; i++) {
      values[i] = size == 2 ? Float.intBitsToFloat(bytes.getShort() << 16) : bytes.getFloat();
    }
    return values;
  }

  private static List<Tensor> tensors(AttendResponse answer) {
    List<Tensor> all = new ArrayList<>();
    if (answer.hasOutput()) all.add(answer.getOutput());
    if (answer.hasLogSumExp()) all.add(answer.getLogSumExp());
    if (answer.hasHeadOutputs()) all.add(answer.getHeadOutputs());
    answer.getMapsList().forEach(map -> all.add(map.getWeights()));
    return all;
  }

  private static boolean isClose(Tensor got, Tensor want, double tolerance) {
    double[] a = numbers(got);
    double[] b = numbers(want);
    boolean close = got.getShapeList().equals(want.getShapeList()) && a.length == b.length;
    for (int i = 0; close && i < a.length; i++) {
      close = a[i] == b[i] || Math.abs(a[i] - b[i]) <= tolerance;
    }
    return close;
  }

  private static boolean answered(AttendResponse answer, Golden golden)
      throws InvalidProtocolBufferException {
    if (golden.expected == null) return false;
    AttendResponse.Builder expected = AttendResponse.newBuilder();
    JsonFormat.parser().merge(golden.expected.toString(), expected);
    List<Tensor> got = tensors(answer);
    List<Tensor> want = tensors(expected.build());
    System.out.printf(
        "%s: %s, %d tensors, the first begins with %f%n",
        golden.name, answer.getExecution().getCpuTarget(), got.size(), numbers(got.get(0))[0]);
    boolean close = got.size() == want.size();
    for (int i = 0; close && i < got.size(); i++) {
      close = isClose(got.get(i), want.get(i), golden.tolerance);
    }
    return close;
  }

  private static boolean refused(StatusRuntimeException failure, Golden golden)
      throws InvalidProtocolBufferException {
    List<String> fields = new ArrayList<>();
    for (var detail : StatusProto.fromThrowable(failure).getDetailsList()) {
      if (!detail.is(BadRequest.class)) continue;
      detail.unpack(BadRequest.class).getFieldViolationsList().forEach(v -> fields.add(v.getField()));
    }
    Refusal refusal = new Refusal(failure.getStatus().getCode().name(), fields);
    System.out.printf("%s: %s%n", golden.name, refusal);
    return refusal.equals(golden.error);
  }

  private static TensorSpec.Builder spec(Tensor tensor) {
    return TensorSpec.newBuilder()
        .addAllShape(tensor.getShapeList())
        .setKind(TensorKind.TENSOR_KIND_F32);
  }

  private static void sendHeader(StreamObserver<AttendStreamRequest> out, AttendRequest request) {
    QueryKeyValue given = request.getQueryKeyValue();
    AttendStreamRequest.Builder part = AttendStreamRequest.newBuilder();
    var call = part.getHeaderBuilder().getCallBuilder();
    call.setOptions(request.getOptions()).setOutputs(request.getOutputs());
    call.getQueryKeyValueBuilder()
        .setQuery(spec(given.getQuery()))
        .setKey(spec(given.getKey()))
        .setValue(spec(given.getValue()));
    out.onNext(part.build());
  }

  private static void sendChunks(
      StreamObserver<AttendStreamRequest> out, StreamedTensor name, ByteString bytes) {
    for (int at = 0; at < bytes.size(); at += CHUNK_BYTES) {
      ByteString data = bytes.substring(at, Math.min(at + CHUNK_BYTES, bytes.size()));
      AttendStreamRequest.Builder part = AttendStreamRequest.newBuilder();
      part.getChunkBuilder().setTensor(name).setOffset(at).setData(data);
      out.onNext(part.build());
    }
  }

  /** Puts a streamed output together. */
  private static final class Assembly implements StreamObserver<AttendStreamResponse> {
    final CompletableFuture<ByteString> whole = new CompletableFuture<>();
    private byte[] output = {};

    @Override
    public void onNext(AttendStreamResponse part) {
      if (part.hasAcceptance()) {
        List<Long> shape = part.getAcceptance().getResults(0).getSpec().getShapeList();
        output = new byte[shape.stream().reduce(4L, Math::multiplyExact).intValue()];
      } else if (part.hasChunk()) { // of the output, the one result that was asked for; in any order
        part.getChunk().getData().copyTo(output, (int) part.getChunk().getOffset());
      }
    }

    @Override
    public void onError(Throwable failure) {
      whole.completeExceptionally(failure);
    }

    @Override
    public void onCompleted() {
      whole.complete(ByteString.copyFrom(output));
    }
  }

  private static boolean streamed(
      ManagedChannel channel, AttendRequest request, AttendResponse answer, Golden golden) {
    Assembly assembly = new Assembly();
    var stub = AttentionServiceGrpc.newStub(channel).withDeadlineAfter(10, TimeUnit.SECONDS);
    // onNext keeps what cannot be sent yet: with large tensors, wait for ClientCallStreamObserver's onReady.
    StreamObserver<AttendStreamRequest> out = stub.attendStream(assembly);
    QueryKeyValue given = request.getQueryKeyValue();
    sendHeader(out, request);
    sendChunks(out, StreamedTensor.STREAMED_TENSOR_QUERY, given.getQuery().getF32Le());
    sendChunks(out, StreamedTensor.STREAMED_TENSOR_KEY, given.getKey().getF32Le());
    sendChunks(out, StreamedTensor.STREAMED_TENSOR_VALUE, given.getValue().getF32Le());
    out.onNext(AttendStreamRequest.newBuilder().setCommit(AttendStreamCommit.getDefaultInstance()).build());
    out.onCompleted();
    boolean same = assembly.whole.join().equals(answer.getOutput().getF32Le());
    System.out.printf("%s: streamed, the same bits: %b%n", golden.name, same);
    return same;
  }

  private static boolean check(ManagedChannel channel, String file) throws IOException {
    Golden golden = GSON.fromJson(Files.readString(Path.of(file)), Golden.class);
    AttendRequest.Builder builder = AttendRequest.newBuilder();
    JsonFormat.parser().merge(golden.request.toString(), builder);
    AttendRequest request = builder.build();
    var stub = AttentionServiceGrpc.newBlockingStub(channel).withDeadlineAfter(10, TimeUnit.SECONDS);
    try {
      AttendResponse answer = stub.attend(request);
      boolean good = answered(answer, golden);
      boolean given = request.getQueryKeyValue().getQuery().hasF32Le(); // as bytes, in one golden
      return good && given ? streamed(channel, request, answer, golden) : good;
    } catch (StatusRuntimeException failure) {
      return refused(failure, golden);
    } catch (CompletionException failure) {
      System.out.printf("%s: %s%n", golden.name, failure.getCause());
      return false;
    }
  }

  public static void main(String[] arguments) throws IOException {
    java.security.Security.setProperty("networkaddress.cache.ttl", "1");
    Map<String, ?> config = GSON.fromJson(Files.readString(Path.of("../service_config.json")), Map.class);
    ManagedChannel channel =
        Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create())
            .defaultServiceConfig(config)
            .enableRetry()
            .maxInboundMessageSize(MOST_BYTES)
            .perRpcBufferLimit(MOST_BYTES)
            .retryBufferSize(2L * MOST_BYTES)
            .build();
    int files = arguments.length - 1;
    int passed = 0;
    for (int i = 1; i <= files; i++) passed += check(channel, arguments[i]) ? 1 : 0;
    channel.shutdownNow();
    boolean good = passed == files && passed > 0;
    System.out.printf("golden check %s: %d of %d%n", good ? "passed" : "failed", passed, files);
    System.exit(good ? 0 : 1);
  }
}
