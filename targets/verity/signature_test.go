package verity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A publisher has a certificate, and may sign.
type publisher struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// newPublisher makes one whose certificate is by another, or by itself. It expired long ago, which the kernel does not mind.
func newPublisher(t testing.TB, name string, by *publisher) *publisher {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, IsCA: true,
		NotBefore: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2002, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	p := &publisher{key: key}
	issuer, signer := c, key
	if by != nil {
		issuer, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return p
}

// sign returns a signature of text, in which are the certificates of with.
func (p *publisher) sign(t testing.TB, text string, detached bool, with ...*publisher) []byte {
	t.Helper()
	m, err := pkcs7.NewSignedData([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	m.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := m.SignWithoutAttr(p.cert, p.key, pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	for _, w := range with {
		m.AddCertificate(w.cert)
	}
	if detached {
		m.Detach()
	}
	der, err := m.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestSignature(t *testing.T) {
	im := newImage(shapes[0])
	root := im.args()[8]
	maker, other := newPublisher(t, "publisher", nil), newPublisher(t, "another", nil)
	deputy := newPublisher(t, "deputy of it", maker)
	good := maker.sign(t, root, true)
	for _, c := range []struct {
		name    string
		der     []byte
		trusted []*publisher
		want    error
	}{
		{"by whom we trust", good, []*publisher{other, maker}, nil},
		{"by a deputy, whose certificate comes along", deputy.sign(t, root, true, deputy), []*publisher{maker}, nil},
		{"by a deputy whom we trust", deputy.sign(t, root, true), []*publisher{deputy}, nil},
		{"by somebody else", other.sign(t, root, true), []*publisher{maker}, unix.ENOKEY},
		{"nobody is trusted", good, nil, unix.ENOKEY},
		{"by the one who signed for him whom we trust", good, []*publisher{deputy}, unix.ENOKEY},
		{"of another root", maker.sign(t, strings.Repeat("0", len(root)), true), []*publisher{maker}, unix.EKEYREJECTED},
		{"of the root in other letters", maker.sign(t, strings.ToUpper(root), true), []*publisher{maker}, unix.EKEYREJECTED},
		{"with content", maker.sign(t, root, false), []*publisher{maker}, unix.EINVAL},
		{"cut short", good[:len(good)-40], []*publisher{maker}, unix.EBADMSG},
		{"empty", nil, []*publisher{maker}, unix.EBADMSG},
	} {
		data, hash := im.disks(t)
		h := mappertest.NewHost(data, hash)
		h.RO = true
		h.KeyRing.ByName = map[string][]byte{"user:sig": c.der}
		for _, p := range c.trusted {
			h.KeyRing.Certificates = append(h.KeyRing.Certificates, p.cert.Raw)
		}
		made, err := newTarget(ctx, h, im.spec("ignore_corruption", "root_hash_sig_key_desc", "sig"))
		if c.want == nil {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			} else if got, want := made.(*target).Table(false), im.args("ignore_corruption", "root_hash_sig_key_desc", "sig"); !slices.Equal(got, want) {
				t.Errorf("%s: the table is %q, want %q", c.name, got, want)
			}
			continue
		}
		var arg *mapper.ArgError
		if !errors.Is(mapper.Errno(err), c.want) || !errors.As(err, &arg) || arg.Reason != "Root hash verification failed" {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// No bit of a signature that counts can change. (Some do not count: the parameters of an algorithm that has none.)
func TestSignatureFlips(t *testing.T) {
	p := newPublisher(t, "publisher", nil)
	good := rootSignature{"k", p.sign(t, "aa", true)}
	if err := good.verify([][]byte{p.cert.Raw}, []byte("aa")); err != nil {
		t.Fatal(err)
	}
	m, err := pkcs7.Parse(good.der)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(good.der, m.Signers[0].EncryptedDigest)
	for i := at; i < at+len(m.Signers[0].EncryptedDigest); i++ {
		bad := rootSignature{"k", bytes.Clone(good.der)}
		bad.der[i] ^= 1
		if err := bad.verify([][]byte{p.cert.Raw}, []byte("aa")); err == nil {
			t.Errorf("byte %d: a change is not found", i)
		}
	}
}

func TestSignatureArguments(t *testing.T) {
	im := newImage(shapes[0])
	for _, c := range []struct {
		options []string
		want    string
		errno   unix.Errno
	}{
		{[]string{"root_hash_sig_key_desc"}, "DM Verity Sig Verification Signature key not specified", unix.EINVAL},
		{[]string{"ROOT_HASH_SIG_KEY_DESC", "none"}, "DM Verity Sig Verification Invalid key specified", unix.ENOKEY},
		{[]string{"root_hash_sig_key_desc", "sig", "root_hash_sig_key_desc", "sig"}, "DM Verity Sig Verification root_hash_sig_key_desc already specified", unix.EINVAL},
	} {
		data, hash := im.disks(t)
		h := mappertest.NewHost(data, hash)
		h.RO = true
		h.KeyRing.ByName = map[string][]byte{"user:sig": {1}}
		_, err := newTarget(ctx, h, im.spec(c.options...))
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want || mapper.Errno(err) != c.errno {
			t.Errorf("%q: %v, want %s", c.options, err, c.want)
		}
	}
}

// Whatever is given for a signature, it is refused.
func FuzzSignature(f *testing.F) {
	p := newPublisher(f, "publisher", nil)
	f.Add(p.sign(f, "aa", true))
	f.Add(p.sign(f, "ab", true, p))
	f.Add([]byte("\x30\x80\x30\x80\x30\x80"))
	f.Fuzz(func(t *testing.T, der []byte) {
		s := rootSignature{"k", der}
		if err := s.verify([][]byte{p.cert.Raw}, []byte("ac")); err == nil {
			t.Errorf("%x is taken for a signature", der)
		}
	})
}
