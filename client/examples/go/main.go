// Sends golden requests to a Headlight server and compares its answers: attend ADDRESS FILE...
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	pb "example/headlight"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // asks for health, as the service config says
	"google.golang.org/grpc/resolver/dns"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const (
	mostBytes  = 256 << 20 // gRPC's own limit is 4 MiB
	chunkBytes = 128       // many for a small tensor, to show it; send 1 MiB, the most that is allowed
)

type golden struct {
	Name              string
	Request, Expected json.RawMessage
	Tolerance         float64
	Error             struct {
		Code   string
		Fields []string
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return value
}

func fromJSON[T proto.Message](text []byte, message T) T {
	must(0, protojson.Unmarshal(text, message))
	return message
}

func numbers(tensor *pb.Tensor) []float32 {
	values := tensor.GetF32Values().GetValues()
	for bytes := tensor.GetF32Le(); len(bytes) > 0; bytes = bytes[4:] {
		values = append(values, math.Float32frombits(binary.LittleEndian.Uint32(bytes)))
	}
	for bytes := tensor.GetBf16Le(); len(bytes) > 0; bytes = bytes[2:] { // the upper half of a float32
		values = append(values, math.Float32frombits(uint32(binary.LittleEndian.Uint16(bytes))<<16))
	}
	return values
}

func tensors(answer *pb.AttendResponse) []*pb.Tensor {
	all := []*pb.Tensor{answer.Output, answer.LogSumExp, answer.HeadOutputs}
	for _, one := range answer.Maps {
		all = append(all, one.GetWeights())
	}
	return slices.DeleteFunc(all, func(tensor *pb.Tensor) bool { return tensor == nil })
}

func answered(answer *pb.AttendResponse, want golden) bool {
	got, expected := tensors(answer), tensors(fromJSON(want.Expected, &pb.AttendResponse{}))
	fmt.Printf("%s: %s, %d tensors, the first begins with %v\n", want.Name, answer.Execution.CpuTarget, len(got), numbers(got[0])[0])
	return slices.EqualFunc(got, expected, func(g, w *pb.Tensor) bool {
		return slices.Equal(g.Shape, w.Shape) && slices.EqualFunc(numbers(g), numbers(w), func(a, b float32) bool {
			return a == b || math.Abs(float64(a-b)) <= want.Tolerance
		})
	})
}

func refused(err error, want golden) bool {
	state := status.Convert(err)
	name := code.Code(state.Code()).String()
	var fields []string
	for _, detail := range state.Details() {
		if bad, is := detail.(*errdetails.BadRequest); is {
			for _, violation := range bad.FieldViolations {
				fields = append(fields, violation.Field)
			}
		}
	}
	fmt.Printf("%s: %s, %v %s\n", want.Name, name, fields, state.Message())
	return name == want.Error.Code && slices.Equal(fields, want.Error.Fields)
}

func spec(tensor *pb.Tensor) *pb.TensorSpec {
	return &pb.TensorSpec{Shape: tensor.Shape, Kind: pb.TensorKind_TENSOR_KIND_F32}
}

// What a stream takes: the call without its tensors' bytes, those in chunks, a commit.
func parts(request *pb.AttendRequest) []*pb.AttendStreamRequest {
	given := request.GetQueryKeyValue()
	specs := &pb.QueryKeyValueSpec{Query: spec(given.Query), Key: spec(given.Key), Value: spec(given.Value)}
	call := &pb.PlanAttentionRequest{
		Input:   &pb.PlanAttentionRequest_QueryKeyValue{QueryKeyValue: specs},
		Options: request.Options,
		Outputs: request.Outputs,
	}
	all := []*pb.AttendStreamRequest{{Part: &pb.AttendStreamRequest_Header{Header: &pb.AttendStreamHeader{Call: call}}}}
	for name, tensor := range map[pb.StreamedTensor]*pb.Tensor{ // tensors may come in any order
		pb.StreamedTensor_STREAMED_TENSOR_QUERY: given.Query,
		pb.StreamedTensor_STREAMED_TENSOR_KEY:   given.Key,
		pb.StreamedTensor_STREAMED_TENSOR_VALUE: given.Value,
	} {
		offset := uint64(0)
		for data := range slices.Chunk(tensor.GetF32Le(), chunkBytes) {
			chunk := &pb.TensorChunk{Tensor: name, Offset: offset, Data: data}
			all = append(all, &pb.AttendStreamRequest{Part: &pb.AttendStreamRequest_Chunk{Chunk: chunk}})
			offset += uint64(len(data))
		}
	}
	return append(all, &pb.AttendStreamRequest{Part: &pb.AttendStreamRequest_Commit{Commit: &pb.AttendStreamCommit{}}})
}

func receive(stream pb.AttentionService_AttendStreamClient) ([]byte, error) {
	var output []byte
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			return output, nil
		}
		if err != nil {
			return nil, err
		}
		switch part := message.Part.(type) {
		case *pb.AttendStreamResponse_Acceptance:
			size := int64(4)
			for _, axis := range part.Acceptance.Results[0].Spec.Shape {
				size *= axis
			}
			output = make([]byte, size)
		case *pb.AttendStreamResponse_Chunk: // of the output, the one result that was asked for; in any order
			copy(output[part.Chunk.Offset:], part.Chunk.Data)
		}
	}
}

func streamed(ctx context.Context, client pb.AttentionServiceClient, request *pb.AttendRequest) ([]byte, error) {
	stream, err := client.AttendStream(ctx)
	if err != nil {
		return nil, err
	}
	for _, part := range parts(request) {
		if stream.Send(part) != nil {
			break // Recv says why
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	return receive(stream)
}

func check(client pb.AttentionServiceClient, file string) bool {
	var want golden
	must(0, json.Unmarshal(must(os.ReadFile(file)), &want))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	request := fromJSON(want.Request, &pb.AttendRequest{})
	answer, err := client.Attend(ctx, request)
	if err != nil {
		return refused(err, want)
	}
	good := want.Expected != nil && answered(answer, want)
	if good && len(request.GetQueryKeyValue().GetQuery().GetF32Le()) > 0 { // the golden whose Q, K and V are bytes
		output, err := streamed(ctx, client, request)
		if err != nil {
			return refused(err, want)
		}
		good = bytes.Equal(output, answer.Output.GetF32Le())
		fmt.Printf("%s: streamed, the same bits: %t\n", want.Name, good)
	}
	return good
}

func main() {
	dns.SetMinResolutionInterval(time.Second)
	connection := must(grpc.NewClient(os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(string(must(os.ReadFile("../service_config.json")))),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(mostBytes), grpc.MaxRetryRPCBufferSize(mostBytes))))
	defer connection.Close()
	client, files, passed := pb.NewAttentionServiceClient(connection), os.Args[2:], 0
	for _, file := range files {
		if check(client, file) {
			passed++
		}
	}
	if passed < len(files) || passed == 0 {
		fmt.Printf("golden check failed: %d of %d\n", passed, len(files))
		os.Exit(1)
	}
	fmt.Printf("golden check passed: %d of %d\n", passed, len(files))
}
