// Sends golden requests to a Headlight server and compares its answers: attend ADDRESS FILE...
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
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

const mostBytes = 256 << 20 // gRPC's own limit is 4 MiB

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

func check(client pb.AttentionServiceClient, file string) bool {
	var want golden
	must(0, json.Unmarshal(must(os.ReadFile(file)), &want))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := client.Attend(ctx, fromJSON(want.Request, &pb.AttendRequest{}))
	if err != nil {
		return refused(err, want)
	}
	return want.Expected != nil && answered(answer, want)
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
