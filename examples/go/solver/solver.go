// Package solver solves the challenges that Watchword asks for (ALTCHA, version 2).
package solver

import (
	"cmp"
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	pb "watchword.dev/examples/go/gen/watchword/auth/v1"
)

const (
	// The most rounds of PBKDF2 for one solution: about a minute. Watchword asks for 8 million by default.
	roundsMax = 300_000_000
	// The first solution may have expired before it arrived.
	solutionsMax = 2
)

// The rate limits that a call with proof of work passes.
var passedLimits = []string{"address", "account", "address_and_account", "registrations"}

func errorInfo(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

// Reason returns the reason of an error: a name from error_reason.proto, for programs. The text of err is for people.
func Reason(err error) string { return errorInfo(err).GetReason() }

// isSolvable says whether the call may be accepted with proof of work.
func isSolvable(err error) bool {
	info := errorInfo(err)
	switch info.GetReason() {
	case "CHALLENGE_REQUIRED", "CHALLENGE_INVALID":
		return true
	case "RATE_LIMITED":
		return slices.Contains(passedLimits, info.GetMetadata()["limit"])
	}
	return false
}

// SolveChallenges is an interceptor that sends a call again with proof of work where that helps.
func SolveChallenges(ctx context.Context, method string, request, response any, conn *grpc.ClientConn,
	call grpc.UnaryInvoker, options ...grpc.CallOption) error {
	_, takesSolution := request.(interface{ GetChallengeSolution() string })
	for range solutionsMax {
		err := call(ctx, method, request, response, conn, options...)
		if !takesSolution || !isSolvable(err) {
			return err
		}
		if err := addSolution(ctx, request, conn); err != nil {
			return err
		}
	}
	return call(ctx, method, request, response, conn, options...)
}

func addSolution(ctx context.Context, request any, conn *grpc.ClientConn) (err error) {
	auth := pb.NewAuthClient(conn)
	// In a session a challenge for any username.
	challenge := &pb.CreateChallengeRequest{Purpose: pb.ChallengePurpose_CHALLENGE_PURPOSE_LOGIN}
	switch request := request.(type) {
	case *pb.RegisterRequest:
		challenge.Purpose = pb.ChallengePurpose_CHALLENGE_PURPOSE_REGISTER
		request.ChallengeSolution, err = solution(ctx, auth, challenge)
	case *pb.LoginRequest:
		challenge.Username = request.GetUsername()
		request.ChallengeSolution, err = solution(ctx, auth, challenge)
	case *pb.ChangePasswordRequest:
		request.ChallengeSolution, err = solution(ctx, auth, challenge)
	case *pb.DeleteUserRequest:
		request.ChallengeSolution, err = solution(ctx, auth, challenge)
	case *pb.RevokeAllSessionsRequest:
		request.ChallengeSolution, err = solution(ctx, auth, challenge)
	}
	return err
}

// solution finds the counter whose key begins with the prefix.
func solution(ctx context.Context, auth pb.AuthClient, request *pb.CreateChallengeRequest) (string, error) {
	created, err := auth.CreateChallenge(ctx, request)
	if err != nil {
		return "", err
	}
	var asked struct {
		Parameters struct {
			Algorithm, KeyPrefix, Nonce, Salt string
			Cost, KeyLength                   int
		}
	}
	if err := json.Unmarshal([]byte(created.GetChallenge()), &asked); err != nil {
		return "", err
	}
	parameters := asked.Parameters
	nonce, nonceErr := hex.DecodeString(parameters.Nonce)
	salt, saltErr := hex.DecodeString(parameters.Salt)
	keysMax := roundsMax / max(parameters.Cost, 1)
	if parameters.Algorithm != "PBKDF2/SHA-256" || nonceErr != nil || saltErr != nil ||
		len(parameters.KeyPrefix) > 8 || 1<<(4*len(parameters.KeyPrefix)) > keysMax {
		return "", fmt.Errorf("the challenge asks for too much work, or for another algorithm: %s", created.GetChallenge())
	}
	for counter := range keysMax {
		password := string(binary.BigEndian.AppendUint32(nonce, uint32(counter)))
		key, err := pbkdf2.Key(sha256.New, password, salt, parameters.Cost, parameters.KeyLength)
		if err != nil || ctx.Err() != nil {
			return "", cmp.Or(err, ctx.Err())
		}
		if derived := hex.EncodeToString(key); strings.HasPrefix(derived, parameters.KeyPrefix) {
			solved := fmt.Sprintf(`{"challenge":%s,"solution":{"counter":%d,"derivedKey":"%s"}}`,
				created.GetChallenge(), counter, derived)
			return base64.StdEncoding.EncodeToString([]byte(solved)), nil
		}
	}
	return "", fmt.Errorf("the challenge was not solved with %d rounds", roundsMax)
}
