// Tokens in Go (`go generate && go run ./verify`): logs in, calls with the access token, and verifies it offline, as any
// other service can.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	pb "watchword.dev/examples/go/gen/watchword/auth/v1"
	"watchword.dev/examples/go/solver"
)

func main() {
	issuer := cmp.Or(os.Getenv("WATCHWORD_ISSUER"), "http://127.0.0.1:5000")
	deadlines := `{"methodConfig": [{"name": [{"service": "watchword.auth.v1.Auth"}], "timeout": "5s"}]}`
	conn := must(grpc.NewClient(cmp.Or(os.Getenv("WATCHWORD_ADDR"), "127.0.0.1:50051"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(deadlines),
		grpc.WithUnaryInterceptor(solver.SolveChallenges)))
	auth, ctx := pb.NewAuthClient(conn), context.Background()
	name, password := "ada-"+uuid.NewString()[:8], "correct horse battery staple"
	must(auth.Register(ctx, &pb.RegisterRequest{Username: name, Password: password}))
	tokens := must(auth.Login(ctx, &pb.LoginRequest{Username: name, Password: password})).GetTokens()

	bearer := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+tokens.GetAccessToken())
	user := must(auth.GetUser(bearer, &pb.GetUserRequest{})).GetUser()
	fmt.Println("called as:", user.GetUsername(), user.GetUserId())

	// One for each process: fetches the public keys, and fetches them again when they change.
	keys := must(keyfunc.NewDefaultCtx(ctx, []string{issuer + "/.well-known/jwks.json"}))
	// Requires one algorithm, the expected issuer and audience, and an expiry.
	token := must(jwt.Parse(tokens.GetAccessToken(), keys.Keyfunc, jwt.WithValidMethods([]string{"ES256"}),
		jwt.WithIssuer(issuer), jwt.WithAudience("watchword"), jwt.WithExpirationRequired()))
	fmt.Println("verified:", must(token.Claims.GetSubject()))
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
