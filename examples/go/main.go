// First call from Go (`go generate && go run .`): registers, logs in, and reads the error reason of a wrong password.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "watchword.dev/examples/go/gen/watchword/auth/v1"
	"watchword.dev/examples/go/solver"
)

func main() {
	deadlines := `{"methodConfig": [{"name": [{"service": "watchword.auth.v1.Auth"}], "timeout": "5s"}]}`
	conn := must(grpc.NewClient(cmp.Or(os.Getenv("WATCHWORD_ADDR"), "127.0.0.1:50051"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(deadlines),
		grpc.WithUnaryInterceptor(solver.SolveChallenges)))
	auth, ctx := pb.NewAuthClient(conn), context.Background()
	name, password := "ada-"+uuid.NewString()[:8], "correct horse battery staple"
	// With a request_id the registration can be repeated when its response was lost.
	must(auth.Register(ctx, &pb.RegisterRequest{Username: name, Password: password, RequestId: uuid.NewString()}))
	user := must(auth.Login(ctx, &pb.LoginRequest{Username: name, Password: password})).GetUser()
	fmt.Println("logged in:", user.GetUsername(), user.GetUserId())

	_, err := auth.Login(ctx, &pb.LoginRequest{Username: name, Password: "wrong"})
	if solver.Reason(err) != "INVALID_CREDENTIALS" {
		log.Fatal("a wrong password did not return INVALID_CREDENTIALS: ", err)
	}
	fmt.Println("refused:", solver.Reason(err))
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
