// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDomainRegistry} from "../src/interfaces/IDomainRegistry.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Fqdn} from "../src/libraries/Fqdn.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {Perspectives} from "../src/libraries/Perspectives.sol";
import {DomainSuite} from "./utils/DomainSuite.sol";

contract DomainRegistryTest is DomainSuite {
    IDomainRegistry.TargetType internal constant NONE = IDomainRegistry.TargetType.None;
    IDomainRegistry.TargetType internal constant SITE = IDomainRegistry.TargetType.Site;
    IDomainRegistry.Method internal constant BY_ADDRESS = IDomainRegistry.Method.Address;
    bytes32 internal constant TARGET = keccak256("target");
    bytes32 internal constant SPKI = keccak256("spki");
    bytes32 internal constant NEXT = keccak256("next spki");
    uint40 internal constant CERT_END = START + 90 days;

    address internal alice = makeAddr("alice");
    address internal bob = makeAddr("bob");
    bytes32 internal key;

    function setUp() public override {
        super.setUp();
        key = domains.keyOf("example.com");
    }

    function _have() private {
        _give(alice, "example.com");
        skip(60);
    }

    /* NAMES */

    function test_keyOf_isTheHashOfTheName() public view {
        assertEq(domains.keyOf("example.com"), keccak256("example.com"));
        assertEq(domains.keyOf("a-z_09.az"), keccak256("a-z_09.az"));
        assertEq(domains.keyOf("*.example.com"), keccak256("*.example.com"));
        assertEq(domains.keyOf("xn--bcher-kva.example"), keccak256("xn--bcher-kva.example"));
        assertEq(domains.keyOf("_a-1.b_c.xn--p1ai"), keccak256("_a-1.b_c.xn--p1ai"));
        domains.keyOf("abc--d.d1");
        domains.keyOf(string.concat(_long(63), ".", _long(63), ".", _long(63), ".", _long(61)));
    }

    function test_keyOf_revertsOnOtherForms() public {
        _bad("", 0);
        _bad("localhost", 9);
        _bad("Example.com", 0);
        _bad("example.com.", 12);
        _bad(".example.com", 0);
        _bad("a..com", 2);
        _bad("-a.com", 0);
        _bad("a-.com", 2);
        _bad("ex ample.com", 2);
        _bad(unicode"bücher.example", 1);
        _bad("aa--b.com", 3);
        _bad("x1--b.com", 3);
        _bad("xn--.com", 4);
        _bad("a.com-", 6);
        _bad("10.0.0.1", 7);
        _bad("a._tcp", 2);
        _bad("a.1com", 2);
        _bad("*", 1);
        _bad("*.", 2);
        _bad("*.com", 5);
        _bad("*a.example.com", 1);
        _bad("a.*.example.com", 2);
        _bad("*._a.com", 2);
        _bad(string.concat(_long(64), ".com"), 64);
        _bad(string.concat(_long(63), ".", _long(63), ".", _long(63), ".", _long(62)), 254);
    }

    /// @dev Written apart from the library: labels first, then their letters.
    function testFuzz_keyOf_acceptsWhatTheRulesSay(bytes memory seed, bool noise) public {
        bytes memory name = new bytes(seed.length % 48);
        bytes memory letters = noise ? bytes("abcxn01-._*A ") : bytes("abcxn0-.");
        for (uint256 i; i < name.length; ++i) {
            name[i] = letters[uint8(seed[i]) % letters.length];
        }
        (bool ok,) = address(domains).staticcall(abi.encodeCall(domains.keyOf, (string(name))));
        assertEq(ok, _isName(name), string(name));
    }

    /* REQUESTS */

    function test_request_countsForItsAccountOnly() public {
        bytes32 token = domains.tokenOf(key, alice, 0);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DomainRequested(key, alice, "example.com", token, 0, SITE, TARGET);
        vm.prank(alice);
        (bytes32 k, bytes32 t) = domains.request("example.com", SITE, TARGET);
        assertEq(k, key);
        assertEq(t, token);
        assertEq(t, keccak256(abi.encode(key, alice, uint32(0))));
        vm.prank(bob);
        domains.request("example.com", NONE, 0);
        IDomainRegistry.RequestView memory r = domains.requestOf(key, alice);
        assertEq(r.requestedAt, START);
        assertEq(r.target, TARGET);
        assertEq(uint8(r.targetType), uint8(SITE));
        assertEq(r.token, token);
        assertEq(uint8(domains.domain(key).status), uint8(IDomainRegistry.Status.None));
    }

    function test_request_again_changesTheTarget() public {
        vm.startPrank(alice);
        domains.request("example.com", SITE, TARGET);
        skip(1);
        domains.request("example.com", NONE, 0);
        vm.stopPrank();
        assertEq(domains.requestOf(key, alice).target, 0);
        assertEq(domains.requestOf(key, alice).requestedAt, START + 1);
    }

    function test_request_reverts() public {
        _have();
        vm.startPrank(alice);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Duplicate.selector, key));
        domains.request("example.com", SITE, TARGET);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.BadTarget.selector, SITE, 0));
        domains.request("example.org", SITE, 0);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.BadTarget.selector, NONE, TARGET));
        domains.request("example.org", NONE, TARGET);
        vm.stopPrank();
        domains.pause(Pausing.ENTRY, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        domains.request("example.org", SITE, TARGET);
    }

    /* VERIFICATION */

    function test_verify_givesTheName() public {
        _ask(alice, "example.com");
        skip(60);
        bytes memory sigs = _attest(key, alice, 0, uint40(block.timestamp - 5), 5);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DomainVerified(key, alice, 0, TOKEN_METHOD, START + 55, START + 55 + 90 days);
        domains.verify(key, alice, TOKEN_METHOD, START + 55, sigs);
        IDomainRegistry.DomainView memory d = domains.domain(key);
        assertEq(d.owner, alice);
        assertEq(uint8(d.status), uint8(IDomainRegistry.Status.Verified));
        assertEq(d.verifiedAt, START + 55);
        assertEq(d.validUntil, START + 55 + 90 days);
        vm.warp(d.validUntil);
        assertEq(uint8(domains.domain(key).status), uint8(IDomainRegistry.Status.Verified));
        skip(1);
        assertEq(uint8(domains.domain(key).status), uint8(IDomainRegistry.Status.Grace));
        vm.warp(START + 60);
        assertEq(d.target, TARGET);
        assertEq(d.token, domains.tokenOf(key, alice, 0));
        (address owner, IDomainRegistry.TargetType t, bytes32 target) = domains.resolve(key);
        assertEq(owner, alice);
        assertEq(uint8(t), uint8(SITE));
        assertEq(target, TARGET);
    }

    function test_verify_renews() public {
        _have();
        skip(95 days);
        nodes.snapshotCoordinators();
        assertEq(uint8(domains.domain(key).status), uint8(IDomainRegistry.Status.Grace));
        uint40 now_ = uint40(block.timestamp);
        // What is running goes on while entries are paused.
        domains.pause(Pausing.ENTRY, 1 days);
        domains.verify(key, alice, TOKEN_METHOD, now_, _attest(key, alice, 0, now_, 5));
        IDomainRegistry.DomainView memory d = domains.domain(key);
        assertEq(uint8(d.status), uint8(IDomainRegistry.Status.Verified));
        assertEq(d.validUntil, now_ + 90 days);
        assertEq(d.nonce, 0);
    }

    function test_verify_revertsWithoutARequest() public {
        bytes memory sigs = _attest(key, alice, 0, START, 5);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.NotRequested.selector, key, alice));
        domains.verify(key, alice, TOKEN_METHOD, START, sigs);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.NotRequested.selector, key, address(0)));
        domains.verify(key, address(0), TOKEN_METHOD, START, sigs);
        domains.pause(Pausing.ENTRY, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        domains.verify(key, alice, TOKEN_METHOD, START, sigs);
    }

    function test_verify_revertsWhenTaken() public {
        _have();
        _ask(bob, "example.com");
        bytes memory sigs = _attest(key, bob, 1, START + 60, 5);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.Taken.selector, key, alice));
        domains.verify(key, bob, TOKEN_METHOD, START + 60, sigs);
    }

    function test_verify_takesAnOverdueName() public {
        _have();
        skip(104 days - 60);
        nodes.snapshotCoordinators();
        _ask(bob, "example.com");
        uint40 now_ = uint40(block.timestamp);
        bytes memory sigs = _attest(key, bob, 1, now_, 5);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.Taken.selector, key, alice));
        domains.verify(key, bob, TOKEN_METHOD, now_, sigs);
        skip(1);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DomainEnded(key, alice, IDomainRegistry.Status.Lapsed, 1, 0);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DomainVerified(key, bob, 1, TOKEN_METHOD, now_, now_ + 90 days);
        domains.verify(key, bob, TOKEN_METHOD, now_, sigs);
        assertEq(domains.domain(key).owner, bob);
    }

    function test_verify_revertsOnStaleAttestations() public {
        _have();
        uint40 seen = domains.domain(key).verifiedAt;
        bytes memory sigs = _attest(key, alice, 0, seen, 5);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.StaleAttestation.selector, seen, seen));
        domains.verify(key, alice, TOKEN_METHOD, seen, sigs);
        uint40 now_ = uint40(block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, now_ + 1));
        domains.verify(key, alice, TOKEN_METHOD, now_ + 1, sigs);
        sigs = _attest(key, alice, 0, now_, 5);
        skip(24 hours + 1);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.StaleAttestation.selector, now_, now_));
        domains.verify(key, alice, TOKEN_METHOD, now_, sigs);
        vm.warp(block.timestamp - 1);
        domains.verify(key, alice, TOKEN_METHOD, now_, sigs);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 2));
        domains.verify(key, alice, IDomainRegistry.Method.None, now_ + 1, sigs);
    }

    function test_verify_needsFiveSignersOfThreeRegions() public {
        _ask(alice, "example.com");
        bytes32 digest = domains.attestationDigest(key, alice, 0, TOKEN_METHOD, START);
        bytes memory sigs = _sigs(digest, hex"00010203");
        vm.expectRevert(abi.encodeWithSelector(Perspectives.TooLittleWeight.selector, 2_000_000, 4_000_000));
        domains.verify(key, alice, TOKEN_METHOD, START, sigs);
        // Five of two regions.
        sigs = _sigs(digest, hex"0001020304");
        _region(0, 1);
        _region(1, 1);
        _region(2, 1);
        _region(3, 2);
        _region(4, 2);
        _newDay();
        digest = domains.attestationDigest(key, alice, 0, TOKEN_METHOD, uint40(block.timestamp));
        sigs = _sigs(digest, hex"0001020304");
        vm.expectRevert(abi.encodeWithSelector(Perspectives.TooFewPerspectives.selector, 5, 2));
        domains.verify(key, alice, TOKEN_METHOD, uint40(block.timestamp), sigs);
        sigs = _sigs(digest, hex"0001020306");
        domains.verify(key, alice, TOKEN_METHOD, uint40(block.timestamp), sigs);
    }

    function test_verify_weightAloneIsNotEnough() public {
        _stake(coordinators[0], 2_000_000 ether);
        _newDay();
        _ask(alice, "example.com");
        uint40 now_ = uint40(block.timestamp);
        bytes32 digest = domains.attestationDigest(key, alice, 0, TOKEN_METHOD, now_);
        bytes memory sigs = _sigs(digest, hex"00010203");
        vm.expectRevert(abi.encodeWithSelector(Perspectives.TooFewPerspectives.selector, 4, 4));
        domains.verify(key, alice, TOKEN_METHOD, now_, sigs);
        sigs = _sigs(digest, hex"0102030405");
        vm.expectRevert(abi.encodeWithSelector(Perspectives.TooLittleWeight.selector, 2_500_000, 6_000_000));
        domains.verify(key, alice, TOKEN_METHOD, now_, sigs);
    }

    function test_verify_aSmallNetworkMustBeUnanimous() public {
        for (uint256 i = 3; i < 8; ++i) {
            vm.prank(coordinators[i].owner);
            nodes.drain(coordinators[i].id);
        }
        _region(0, 1);
        _region(1, 1);
        _region(2, 1);
        _ask(alice, "example.com");
        bytes32 digest = domains.attestationDigest(key, alice, 0, TOKEN_METHOD, START);
        // The three that are left, of the snapshot with all eight.
        bytes memory sigs = _sigs(digest, hex"0001");
        vm.expectRevert(abi.encodeWithSelector(Perspectives.TooFewPerspectives.selector, 2, 2));
        domains.verify(key, alice, TOKEN_METHOD, START, sigs);
        domains.verify(key, alice, TOKEN_METHOD, START, _sigs(digest, hex"000102"));
        _newDay();
        uint40 now_ = uint40(block.timestamp);
        digest = domains.attestationDigest(key, alice, 0, TOKEN_METHOD, now_);
        sigs = _sigs(digest, hex"0002");
        vm.expectRevert(abi.encodeWithSelector(Perspectives.TooFewPerspectives.selector, 2, 1));
        domains.verify(key, alice, TOKEN_METHOD, now_, sigs);
        domains.verify(key, alice, TOKEN_METHOD, now_, _sigs(digest, hex"000102"));
    }

    function test_verify_wildcardNeedsEightAndTheToken() public {
        bytes32 wild = _ask(alice, "*.example.com");
        bytes memory sigs = _attest(wild, alice, 0, START, 7);
        vm.expectRevert(abi.encodeWithSelector(Perspectives.TooFewPerspectives.selector, 7, 4));
        domains.verify(wild, alice, TOKEN_METHOD, START, sigs);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 1, 2, 2));
        domains.verify(wild, alice, BY_ADDRESS, START, sigs);
        domains.verify(wild, alice, TOKEN_METHOD, START, _attest(wild, alice, 0, START, 8));
        assertTrue(domains.domain(wild).wildcard);
    }

    function test_verify_byAddress() public {
        _ask(alice, "example.com");
        bytes32 digest = domains.attestationDigest(key, alice, 0, BY_ADDRESS, START);
        domains.verify(key, alice, BY_ADDRESS, START, _sigs(digest, hex"0001020304"));
        assertEq(domains.domain(key).owner, alice);
    }

    function test_verify_revertsOnAnothersSignature() public {
        _ask(alice, "example.com");
        bytes32 digest = domains.attestationDigest(key, alice, 0, TOKEN_METHOD, START);
        bytes memory sigs = bytes.concat(_sigs(digest, hex"00010203"), _sign(payerKey, digest));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 4));
        domains.verify(key, alice, TOKEN_METHOD, START, sigs);
        // Signed for another account.
        sigs = _attest(key, bob, 0, START, 5);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        domains.verify(key, alice, TOKEN_METHOD, START, sigs);
    }

    /* WHAT THE OWNER SETS */

    function test_setTarget() public {
        _have();
        vm.prank(alice);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DomainTargetSet(key, IDomainRegistry.TargetType.Ipfs, NEXT);
        domains.setTarget(key, IDomainRegistry.TargetType.Ipfs, NEXT);
        (, IDomainRegistry.TargetType t, bytes32 target) = domains.resolve(key);
        assertEq(uint8(t), uint8(IDomainRegistry.TargetType.Ipfs));
        assertEq(target, NEXT);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.BadTarget.selector, SITE, 0));
        domains.setTarget(key, SITE, 0);
    }

    function test_owner_onlyHeSets() public {
        _have();
        bytes memory refused = abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, bob);
        vm.startPrank(bob);
        vm.expectRevert(refused);
        domains.setTarget(key, SITE, TARGET);
        vm.expectRevert(refused);
        domains.setCert(key, SPKI, CERT_END);
        vm.expectRevert(refused);
        domains.rotateCert(key, SPKI, CERT_END, START + 1 days);
        vm.expectRevert(refused);
        domains.revokeCert(key, SPKI);
        vm.expectRevert(refused);
        domains.setCaa(key, NEXT);
        vm.expectRevert(refused);
        domains.transfer(key, bob);
        vm.expectRevert(refused);
        domains.accept(key);
        vm.expectRevert(refused);
        domains.release(key);
    }

    function test_owner_setsNothingOverdue() public {
        _have();
        skip(104 days - 60);
        vm.prank(alice);
        domains.setTarget(key, SITE, NEXT);
        vm.prank(alice);
        domains.transfer(key, bob);
        skip(1);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.NotVerified.selector, key));
        vm.prank(alice);
        domains.setTarget(key, SITE, TARGET);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.NotVerified.selector, key));
        vm.prank(bob);
        domains.accept(key);
        (address owner, IDomainRegistry.TargetType t, bytes32 target) = domains.resolve(key);
        assertEq(owner, address(0));
        assertEq(uint8(t), 0);
        assertEq(target, 0);
        assertFalse(domains.accepts(key, SPKI));
    }

    function test_setCert_pins() public {
        _have();
        assertTrue(domains.accepts(key, SPKI), "no key: any");
        assertFalse(domains.accepts(key, 0));
        assertFalse(domains.accepts(keccak256("nobody's"), SPKI));
        vm.prank(alice);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.CertPinned(key, SPKI, CERT_END, 0, 0);
        domains.setCert(key, SPKI, CERT_END);
        assertTrue(domains.accepts(key, SPKI));
        assertFalse(domains.accepts(key, NEXT));
        vm.prank(alice);
        domains.setCert(key, 0, 0);
        assertTrue(domains.accepts(key, NEXT), "unpinned: any");
        vm.prank(alice);
        domains.setCert(key, SPKI, uint40(block.timestamp + 1));
        skip(1);
        assertFalse(domains.accepts(key, NEXT));
        skip(1);
        assertTrue(domains.accepts(key, NEXT), "the certificate has ended: any");
    }

    function test_setCert_reverts() public {
        _have();
        uint256 now_ = block.timestamp;
        vm.startPrank(alice);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, now_, now_ + 1, now_ + 730 days));
        domains.setCert(key, SPKI, uint40(now_));
        vm.expectRevert(
            abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, now_ + 730 days + 1, now_ + 1, now_ + 730 days)
        );
        domains.setCert(key, SPKI, uint40(now_ + 730 days + 1));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, now_, 0, 0));
        domains.setCert(key, 0, uint40(now_));
        domains.setCert(key, SPKI, uint40(now_ + 730 days));
        domains.setCert(key, SPKI, uint40(now_ + 1));
        domains.rotateCert(key, NEXT, CERT_END, uint40(now_ + 30 days));
    }

    function test_rotateCert_overlaps() public {
        _have();
        vm.startPrank(alice);
        domains.setCert(key, SPKI, CERT_END);
        uint40 until = uint40(block.timestamp) + 7 days;
        vm.expectEmit(address(domains));
        emit IDomainRegistry.CertPinned(key, NEXT, CERT_END + 30 days, SPKI, until);
        domains.rotateCert(key, NEXT, CERT_END + 30 days, until);
        vm.stopPrank();
        IDomainRegistry.DomainView memory d = domains.domain(key);
        assertEq(d.spkiHash, NEXT);
        assertEq(d.oldSpkiHash, SPKI);
        assertEq(d.certNotAfter, CERT_END + 30 days);
        assertEq(d.overlapUntil, until);
        assertTrue(domains.accepts(key, SPKI) && domains.accepts(key, NEXT));
        vm.warp(until);
        assertTrue(domains.accepts(key, SPKI));
        skip(1);
        assertFalse(domains.accepts(key, SPKI));
        assertTrue(domains.accepts(key, NEXT));
        // Setting one at once ends the overlap.
        vm.startPrank(alice);
        domains.rotateCert(key, SPKI, CERT_END, uint40(block.timestamp) + 1 days);
        domains.setCert(key, SPKI, CERT_END);
        assertFalse(domains.accepts(key, NEXT));
        assertEq(domains.domain(key).oldSpkiHash, 0);
    }

    function test_rotateCert_theOldOneEndsWithItsCertificate() public {
        _have();
        uint40 end = uint40(block.timestamp) + 1 days;
        vm.startPrank(alice);
        domains.setCert(key, SPKI, end);
        domains.rotateCert(key, NEXT, CERT_END, end + 1 days);
        assertEq(domains.domain(key).overlapUntil, end);
    }

    function test_rotateCert_reverts() public {
        _have();
        uint256 now_ = block.timestamp;
        vm.startPrank(alice);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.NoCert.selector, key));
        domains.rotateCert(key, SPKI, CERT_END, uint40(now_ + 1));
        domains.setCert(key, SPKI, CERT_END);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Duplicate.selector, SPKI));
        domains.rotateCert(key, SPKI, CERT_END, uint40(now_ + 1));
        vm.expectRevert(AlephErrors.ZeroHash.selector);
        domains.rotateCert(key, 0, CERT_END, uint40(now_ + 1));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, now_, now_ + 1, now_ + 30 days));
        domains.rotateCert(key, NEXT, CERT_END, uint40(now_));
        vm.expectRevert(
            abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, now_ + 30 days + 1, now_ + 1, now_ + 30 days)
        );
        domains.rotateCert(key, NEXT, CERT_END, uint40(now_ + 30 days + 1));
    }

    function test_revokeCert_isForGood() public {
        _have();
        vm.startPrank(alice);
        domains.setCert(key, SPKI, CERT_END);
        domains.rotateCert(key, NEXT, CERT_END, uint40(block.timestamp) + 1 days);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.CertRevoked(key, SPKI, 0);
        domains.revokeCert(key, SPKI);
        assertFalse(domains.accepts(key, SPKI));
        assertEq(domains.domain(key).oldSpkiHash, 0);
        domains.revokeCert(key, NEXT);
        assertFalse(domains.accepts(key, NEXT), "nobody, until another is set");
        assertFalse(domains.accepts(key, keccak256("other")));
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.KeyRevoked.selector, NEXT));
        domains.revokeCert(key, NEXT);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.KeyRevoked.selector, NEXT));
        domains.setCert(key, NEXT, CERT_END);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.KeyRevoked.selector, SPKI));
        domains.rotateCert(key, SPKI, CERT_END, uint40(block.timestamp) + 1 days);
        vm.expectRevert(AlephErrors.ZeroHash.selector);
        domains.revokeCert(key, 0);
        assertTrue(domains.isRevoked(key, NEXT));
        assertFalse(domains.isRevoked(keccak256("other name"), NEXT), "of this name only");
    }

    function test_setCaa() public {
        _have();
        vm.prank(alice);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.CaaSet(key, NEXT);
        domains.setCaa(key, NEXT);
        assertEq(domains.domain(key).caaHash, NEXT);
    }

    /* OWNERSHIP */

    function test_transfer_keepsTheTargetOnly() public {
        _have();
        vm.startPrank(alice);
        domains.setCert(key, SPKI, CERT_END);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.Taken.selector, key, alice));
        domains.transfer(key, alice);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.TransferOffered(key, bob);
        domains.transfer(key, bob);
        vm.stopPrank();
        assertEq(domains.domain(key).heir, bob);
        vm.prank(bob);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DomainTransferred(key, alice, bob, 1, true);
        domains.accept(key);
        IDomainRegistry.DomainView memory d = domains.domain(key);
        assertEq(d.owner, bob);
        assertEq(d.nonce, 1);
        assertEq(d.target, TARGET);
        assertEq(d.spkiHash, 0);
        assertEq(d.heir, address(0));
        assertEq(d.verifiedAt, START, "DNS has not been asked");
        // DR-5: what was signed for the old owner is dead, and so is the old token.
        uint40 now_ = uint40(block.timestamp);
        bytes memory sigs = _attest(key, alice, 0, now_, 5);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.Taken.selector, key, bob));
        domains.verify(key, alice, TOKEN_METHOD, now_, sigs);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.NotRequested.selector, key, alice));
        domains.dispute(key, alice, TOKEN_METHOD, now_, sigs);
        domains.verify(key, bob, TOKEN_METHOD, now_, _attest(key, bob, 1, now_, 5));
    }

    function test_transfer_canBeTakenBack() public {
        _have();
        vm.startPrank(alice);
        domains.transfer(key, bob);
        domains.transfer(key, address(0));
        vm.stopPrank();
        vm.prank(bob);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, bob));
        domains.accept(key);
    }

    function test_release_freesTheName() public {
        _have();
        vm.prank(alice);
        domains.transfer(key, bob);
        vm.prank(alice);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DomainEnded(key, alice, IDomainRegistry.Status.Released, 1, 0);
        domains.release(key);
        IDomainRegistry.DomainView memory d = domains.domain(key);
        assertEq(d.owner, address(0));
        assertEq(uint8(d.status), uint8(IDomainRegistry.Status.Released));
        assertEq(d.target, 0);
        vm.prank(bob);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, bob));
        domains.accept(key);
        _give(bob, "example.com");
        assertEq(domains.domain(key).owner, bob);
    }

    function test_lapse_after104Days() public {
        _have();
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, START + 104 days + 1));
        domains.lapse(key);
        vm.warp(START + 104 days + 1);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DomainEnded(key, alice, IDomainRegistry.Status.Lapsed, 1, 0);
        domains.lapse(key);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.NotVerified.selector, key));
        domains.lapse(key);
    }

    /* DISPUTES */

    function _disputed() private returns (uint40 seen) {
        _have();
        _ask(bob, "example.com");
        seen = uint40(block.timestamp);
        domains.dispute(key, bob, TOKEN_METHOD, seen, _attest(key, bob, 1, seen, 5));
    }

    function test_dispute_takesTheNameAfter72Hours() public {
        _have();
        vm.prank(alice);
        domains.setCert(key, SPKI, CERT_END);
        _ask(bob, "example.com");
        uint40 seen = uint40(block.timestamp);
        bytes memory sigs = _attest(key, bob, 1, seen, 5);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DomainDisputed(key, bob, seen, seen + 72 hours);
        domains.dispute(key, bob, TOKEN_METHOD, seen, sigs);
        IDomainRegistry.DomainView memory d = domains.domain(key);
        assertEq(uint8(d.status), uint8(IDomainRegistry.Status.Disputed));
        assertEq(d.claimant, bob);
        assertEq(d.disputedAt, seen);
        assertEq(d.owner, alice);
        skip(72 hours - 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, seen + 72 hours));
        domains.settleDispute(key);
        skip(1);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DomainTransferred(key, alice, bob, 1, false);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DisputeSettled(key, bob);
        domains.settleDispute(key);
        d = domains.domain(key);
        assertEq(d.owner, bob);
        assertEq(d.nonce, 1);
        assertEq(d.verifiedAt, seen);
        assertEq(d.spkiHash, 0);
        assertEq(d.claimant, address(0));
        assertEq(uint8(d.status), uint8(IDomainRegistry.Status.Verified));
        assertEq(domains.disputeEnds(key), 0);
        // The claimant's token is the owner's: DNS need not change.
        assertEq(d.token, domains.tokenOf(key, bob, 1));
    }

    function test_dispute_waitsForOutages() public {
        uint40 opened = _disputed();
        _outage(5 hours);
        assertEq(domains.disputeEnds(key), opened + 77 hours);
        skip(77 hours - 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, opened + 77 hours));
        domains.settleDispute(key);
        skip(1);
        domains.settleDispute(key);
    }

    function test_dispute_endsWhenTheOwnerIsSeenAfterIt() public {
        uint40 seen = _disputed();
        skip(1 hours);
        bytes memory sigs = _attest(key, alice, 0, seen, 5);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.StaleAttestation.selector, seen, seen));
        domains.verify(key, alice, TOKEN_METHOD, seen, sigs);
        sigs = _attest(key, alice, 0, seen + 1, 5);
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DisputeSettled(key, alice);
        domains.verify(key, alice, TOKEN_METHOD, seen + 1, sigs);
        IDomainRegistry.DomainView memory d = domains.domain(key);
        assertEq(d.owner, alice);
        assertEq(uint8(d.status), uint8(IDomainRegistry.Status.Verified));
        assertEq(d.claimant, address(0));
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.NoDispute.selector, key));
        domains.settleDispute(key);
    }

    function test_dispute_theNewestClaimCounts() public {
        uint40 seen = _disputed();
        address carol = makeAddr("carol");
        _ask(carol, "example.com");
        bytes memory sigs = _attest(key, carol, 1, seen, 5);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.StaleAttestation.selector, seen, seen));
        domains.dispute(key, carol, TOKEN_METHOD, seen, sigs);
        skip(71 hours);
        uint40 now_ = uint40(block.timestamp);
        sigs = _attest(key, bob, 1, now_, 5);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.DisputeOpen.selector, key));
        domains.dispute(key, bob, TOKEN_METHOD, now_, sigs);
        domains.dispute(key, carol, TOKEN_METHOD, now_, _attest(key, carol, 1, now_, 5));
        skip(1 hours);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, now_ + 72 hours));
        domains.settleDispute(key);
        skip(71 hours);
        domains.settleDispute(key);
        assertEq(domains.domain(key).owner, carol);
    }

    function test_dispute_reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.NotVerified.selector, key));
        domains.dispute(key, bob, TOKEN_METHOD, START, "");
        _have();
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.Taken.selector, key, alice));
        domains.dispute(key, alice, TOKEN_METHOD, START + 60, "");
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.NotRequested.selector, key, bob));
        domains.dispute(key, bob, TOKEN_METHOD, START + 60, "");
        _ask(bob, "example.com");
        bytes memory sigs = _attest(key, bob, 1, START, 5);
        // DR-4.
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.StaleAttestation.selector, START, START));
        domains.dispute(key, bob, TOKEN_METHOD, START, sigs);
        domains.pause(Pausing.PENALTY, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.PENALTY));
        domains.dispute(key, bob, TOKEN_METHOD, START + 60, sigs);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.PENALTY));
        domains.settleDispute(key);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.PENALTY));
        domains.revoke(key, 0, TARGET, sigs);
    }

    function test_dispute_keepsTheNameInPlace() public {
        _have();
        vm.prank(alice);
        domains.transfer(key, bob);
        _ask(bob, "example.com");
        uint40 seen = uint40(block.timestamp);
        domains.dispute(key, bob, TOKEN_METHOD, seen, _attest(key, bob, 1, seen, 5));
        bytes memory open = abi.encodeWithSelector(IDomainRegistry.DisputeOpen.selector, key);
        vm.expectRevert(open);
        vm.prank(bob);
        domains.accept(key);
        vm.expectRevert(open);
        vm.prank(alice);
        domains.release(key);
        skip(200 days);
        vm.expectRevert(open);
        domains.lapse(key);
        // Then it is the claimant's who was not seen for too long, either.
        domains.settleDispute(key);
        domains.lapse(key);
    }

    /* REVOCATION */

    function test_revoke_aKey() public {
        _have();
        vm.prank(alice);
        domains.setCert(key, SPKI, CERT_END);
        bytes memory sigs = _sigs(domains.revocationDigest(key, 0, SPKI, TARGET), hex"0001020304");
        vm.expectEmit(address(domains));
        emit IDomainRegistry.CertRevoked(key, SPKI, TARGET);
        domains.revoke(key, SPKI, TARGET, sigs);
        assertTrue(domains.isRevoked(key, SPKI));
        assertEq(domains.domain(key).owner, alice);
    }

    function test_revoke_theName() public {
        _disputed();
        bytes memory sigs = _sigs(domains.revocationDigest(key, 0, 0, TARGET), hex"0001020304");
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DomainEnded(key, alice, IDomainRegistry.Status.Revoked, 1, TARGET);
        domains.revoke(key, 0, TARGET, sigs);
        IDomainRegistry.DomainView memory d = domains.domain(key);
        assertEq(d.owner, address(0));
        assertEq(uint8(d.status), uint8(IDomainRegistry.Status.Revoked));
        assertEq(domains.disputeEnds(key), 0);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.NotVerified.selector, key));
        domains.revoke(key, 0, TARGET, sigs);
        // Whom DNS names can have it.
        skip(1);
        uint40 now_ = uint40(block.timestamp);
        domains.verify(key, bob, TOKEN_METHOD, now_, _attest(key, bob, 1, now_, 5));
    }

    function test_revoke_reverts() public {
        _have();
        vm.expectRevert(AlephErrors.ZeroHash.selector);
        domains.revoke(key, 0, 0, "");
        bytes memory sigs = _sigs(domains.revocationDigest(key, 0, 0, TARGET), hex"00010203");
        vm.expectRevert(abi.encodeWithSelector(Perspectives.TooLittleWeight.selector, 2_000_000, 4_000_000));
        domains.revoke(key, 0, TARGET, sigs);
        sigs = _sigs(domains.revocationDigest(key, 1, 0, TARGET), hex"0001020304");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        domains.revoke(key, 0, TARGET, sigs);
    }

    /* HELPERS */

    function _bad(string memory name, uint256 index) private {
        vm.expectRevert(abi.encodeWithSelector(Fqdn.BadFqdn.selector, index));
        domains.keyOf(name);
    }

    function _long(uint256 n) private pure returns (string memory) {
        bytes memory label = new bytes(n);
        for (uint256 i; i < n; ++i) {
            label[i] = "a";
        }
        return string(label);
    }

    function _isName(bytes memory name) private pure returns (bool) {
        if (name.length == 0 || name.length > 253) return false;
        uint256 from;
        bool wild = name[0] == "*";
        if (wild) {
            if (name.length < 3 || name[1] != ".") return false;
            from = 2;
        }
        uint256 labels;
        while (true) {
            uint256 to = from;
            while (to < name.length && name[to] != ".") ++to;
            if (!_isLabel(name, from, to, wild)) return false;
            ++labels;
            if (to == name.length) break;
            from = to + 1;
        }
        return labels >= 2 && name[from] >= "a" && name[from] <= "z";
    }

    function _isLabel(bytes memory name, uint256 from, uint256 to, bool wild) private pure returns (bool) {
        uint256 n = to - from;
        if (n == 0 || n > 63 || name[from] == "-" || name[to - 1] == "-") return false;
        for (uint256 i = from; i < to; ++i) {
            bytes1 c = name[i];
            bool digit = c >= "0" && c <= "9";
            bool letter = c >= "a" && c <= "z";
            if (!digit && !letter && c != "-" && (c != "_" || wild)) return false;
        }
        bool dashes = n >= 4 && name[from + 2] == "-" && name[from + 3] == "-";
        return !dashes || (name[from] == "x" && name[from + 1] == "n");
    }
}
