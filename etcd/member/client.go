// SPDX-License-Identifier: Apache-2.0

package member

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/muster-project/muster/etcd"
)

// The member is on this host: what takes longer than this will not come.
const (
	dialTimeout   = 2 * time.Second
	statusTimeout = 3 * time.Second // its own state; no other member is asked
)

// Health asks the member of the configuration how it is. The error is for
// "could not ask because of this side"; a member that does not answer, or
// answers that it has no leader, is a Health that is not healthy.
func Health(ctx context.Context, c etcd.Config) (etcd.Health, error) {
	report := etcd.Health{APIVersion: etcd.ReportVersion, Member: c.Name, DBQuota: c.QuotaBytes}
	s, err := dial(ctx, c)
	if err != nil {
		return report, err
	}
	defer s.Close()
	status, err := s.status(ctx)
	if err != nil {
		report.Problem = fmt.Sprintf("member does not answer at %s: %v", s.endpoint, err)
		return report, nil
	}
	fill(&report, status)
	if status.Leader == 0 {
		report.Problem = "member has no leader: a majority of the members has to run and reach each other"
		return report, nil
	}
	members, err := s.MemberList(ctx)
	if err != nil {
		report.Problem = fmt.Sprintf("member has a leader but no quorum answers: %v", err)
		return report, nil
	}
	report.Members = len(members.Members)
	for _, m := range members.Members {
		if m.IsLearner {
			report.Learners++
		}
	}
	// A linearizable read goes through the leader and a quorum; the key need
	// not exist. A learner may not serve one.
	if !status.IsLearner {
		if _, err := s.Get(ctx, "health"); err != nil {
			report.Problem = fmt.Sprintf("a read through the quorum was not answered: %v", err)
			return report, nil
		}
	}
	if len(report.Alarms) > 0 {
		report.Problem = fmt.Sprintf("alarms are raised: %q", report.Alarms)
		return report, nil
	}
	report.Healthy = true
	return report, nil
}

func fill(report *etcd.Health, s *clientv3.StatusResponse) {
	report.MemberID = hex(s.Header.MemberId)
	if s.Leader != 0 {
		report.LeaderID = hex(s.Leader)
	}
	report.Learner = s.IsLearner
	report.Version = s.Version
	report.DBSize, report.DBSizeInUse = s.DbSize, s.DbSizeInUse
	if s.DbSizeQuota != 0 {
		report.DBQuota = s.DbSizeQuota
	}
	// "no leader" is among the errors and has its own place.
	for _, e := range s.Errors {
		if s.Leader != 0 {
			report.Alarms = append(report.Alarms, e)
		}
	}
}

// Members asks the member of the configuration who is in its cluster.
func Members(ctx context.Context, c etcd.Config) (etcd.MemberList, error) {
	s, err := dial(ctx, c)
	if err != nil {
		return etcd.MemberList{}, err
	}
	defer s.Close()
	if _, err := s.status(ctx); err != nil {
		return etcd.MemberList{}, fmt.Errorf("ask member %s at %s: %w", c.Name, s.endpoint, err)
	}
	answer, err := s.MemberList(ctx)
	if err != nil {
		return etcd.MemberList{}, fmt.Errorf("ask member %s at %s for its cluster: %w", c.Name, s.endpoint, err)
	}
	list := etcd.MemberList{APIVersion: etcd.ReportVersion}
	for _, m := range answer.Members {
		list.Members = append(list.Members, etcd.Member{
			ID: hex(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.IsLearner,
		})
	}
	slices.SortFunc(list.Members, func(a, b etcd.Member) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// session is a client of the local member.
type session struct {
	*clientv3.Client
	endpoint string
	tls      *tls.Config
}

func dial(ctx context.Context, c etcd.Config) (*session, error) {
	endpoint, err := localEndpoint(c)
	if err != nil {
		return nil, fmt.Errorf("ask etcd member %s: %w", c.Name, err)
	}
	config, err := transport.TLSInfo{CertFile: c.Health.Cert, KeyFile: c.Health.Key, TrustedCAFile: c.Health.CA}.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("ask etcd member %s: load %s and %s: %w", c.Name, c.Health.Cert, c.Health.CA, err)
	}
	client, err := clientv3.New(clientv3.Config{
		Context: ctx, Endpoints: []string{endpoint}, TLS: config, DialTimeout: dialTimeout, Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("ask etcd member %s at %s: %w", c.Name, endpoint, err)
	}
	return &session{client, endpoint, config}, nil
}

// status asks the member for its own state. It knocks first, because the
// client of etcd tries again until its context ends and then says nothing but
// that: a port without a listener and a server of another authority should be
// known at once, and by their names.
func (s *session) status(ctx context.Context) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	u, err := url.Parse(s.endpoint)
	if err != nil {
		return nil, err
	}
	dialer := tls.Dialer{Config: s.tls}
	conn, err := dialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	if err := conn.Close(); err != nil {
		return nil, err
	}
	return s.Status(ctx, s.endpoint)
}

// localEndpoint is where this host reaches the member: its first listener,
// with "any address" read as loopback.
func localEndpoint(c etcd.Config) (string, error) {
	u, err := url.Parse(c.ListenClientURLs[0])
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		u.Host = net.JoinHostPort("127.0.0.1", u.Port())
	}
	return u.String(), nil
}

func hex(id uint64) string { return strconv.FormatUint(id, 16) }
