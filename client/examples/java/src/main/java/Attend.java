import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.BadRequest;
import headlight.v1.AttentionServiceGrpc;
import headlight.v1.AttentionServiceOuterClass.AttendRequest;
import headlight.v1.AttentionServiceOuterClass.AttendResponse;
import headlight.v1.TensorOuterClass.Tensor;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Sends golden requests to a Headlight server and compares its answers: Attend ADDRESS FILE... */
public class Attend {
  private static final Gson GSON = new Gson();
  private static final int MOST_BYTES = 256 << 20; // gRPC's own limit is 4 MiB

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

  private static boolean check(ManagedChannel channel, String file) throws IOException {
    Golden golden = GSON.fromJson(Files.readString(Path.of(file)), Golden.class);
    AttendRequest.Builder request = AttendRequest.newBuilder();
    JsonFormat.parser().merge(golden.request.toString(), request);
    var stub = AttentionServiceGrpc.newBlockingStub(channel).withDeadlineAfter(10, TimeUnit.SECONDS);
    try {
      return answered(stub.attend(request.build()), golden);
    } catch (StatusRuntimeException failure) {
      return refused(failure, golden);
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
