package verity

import (
	"bytes"
	"crypto/x509"
	"fmt"

	"github.com/smallstep/pkcs7"
	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// signatureOption names the key that has the signature of the root digest.
const signatureOption = "root_hash_sig_key_desc"

// A rootSignature is a PKCS#7 message (RFC 2315), without its content: the root digest, in digits as it stands in the table line.
type rootSignature struct {
	key string // its description; "" if there is none
	der []byte
}

// parse reads the key that holds the signature.
func (s *rootSignature) parse(h mapper.Host, key string) (err error) {
	if s.key != "" {
		return mapper.BadArg("DM Verity Sig Verification "+signatureOption+" already specified", "")
	}
	s.key = key
	if s.der, err = h.Keys().Key("user", key, func(n int) ([]byte, error) { return make([]byte, n), nil }); err != nil {
		return &mapper.ArgError{Reason: "DM Verity Sig Verification Invalid key specified", Detail: err.Error(), Errno: mapper.Errno(err)}
	}
	return nil
}

// check verifies that somebody signed root whom the configuration trusts.
func (s *rootSignature) check(h mapper.Host, root string) error {
	if s.key == "" {
		return nil
	}
	if err := s.verify(h.Keys().Trusted(), []byte(root)); err != nil {
		return &mapper.ArgError{Reason: "Root hash verification failed", Detail: err.Error(), Errno: mapper.Errno(err)}
	}
	return nil
}

// words returns the option.
func (s *rootSignature) words() []string {
	if s.key == "" {
		return nil
	}
	return []string{signatureOption, s.key}
}

func (s *rootSignature) verify(trusted [][]byte, root []byte) error {
	var anchors []*x509.Certificate
	for _, der := range trusted {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("a certificate of the configuration: %w: %w", err, unix.EBADMSG)
		}
		anchors = append(anchors, c)
	}
	m, err := pkcs7.Parse(s.der)
	switch {
	case err != nil:
		return fmt.Errorf("the signature is no PKCS#7 message: %w: %w", err, unix.EBADMSG)
	case len(m.Content) != 0:
		return fmt.Errorf("the signature has content of its own, want a detached one: %w", unix.EINVAL)
	}
	m.Content = root
	m.Certificates = append(m.Certificates, anchors...) // the message need not have the signer's
	if err := m.Verify(); err != nil {
		if noSigner(m) {
			return fmt.Errorf("none of the %d certificates of the configuration is the signer's: %w", len(anchors), unix.ENOKEY)
		}
		return fmt.Errorf("the signature is not of this root digest: %w: %w", err, unix.EKEYREJECTED)
	}
	for i := range m.Signers {
		one := *m
		one.Signers = m.Signers[i : i+1]
		if trusts(anchors, one.GetOnlySigner(), m.Certificates) {
			return nil
		}
	}
	return fmt.Errorf("the signature is right, but of nobody whom certificates of the configuration trust: %w", unix.ENOKEY)
}

// noSigner reports whether the certificate of a signer is not at hand.
func noSigner(m *pkcs7.PKCS7) bool {
	for i := range m.Signers {
		one := *m
		one.Signers = m.Signers[i : i+1]
		if one.GetOnlySigner() == nil {
			return true
		}
	}
	return false
}

// trusts reports whether c is one of anchors, or was signed by one, directly or by way of others. As the kernel it does not
// ask whether certificates have expired.
func trusts(anchors []*x509.Certificate, c *x509.Certificate, others []*x509.Certificate) bool {
	if c == nil {
		return false
	}
	o := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: c.NotBefore,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, a := range anchors {
		if bytes.Equal(a.Raw, c.Raw) {
			return true
		}
		o.Roots.AddCert(a)
	}
	for _, other := range others {
		o.Intermediates.AddCert(other)
	}
	_, err := c.Verify(o)
	return err == nil
}
