// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Extensible} from "../src/Extensible.sol";
import {IDrandVerifier} from "../src/interfaces/IDrandVerifier.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {ISLAManager} from "../src/interfaces/ISLAManager.sol";
import {IStorageRegistry} from "../src/interfaces/IStorageRegistry.sol";
import {IStorageWords} from "../src/interfaces/IStorageWords.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {Payees} from "../src/libraries/Payees.sol";
import {StorageProof} from "../src/libraries/StorageProof.sol";
import {Asp1} from "./utils/Asp1.sol";
import {StorageSuite} from "./utils/StorageSuite.sol";

contract StorageRegistryTest is StorageSuite {
    uint128 internal id;
    IStorageWords.Terms internal terms;
    bytes internal object;

    function setUp() public override {
        super.setUp();
        object = _object(1, 1500);
    }

    /// @dev An object that pays rent, committed today.
    function _one() private {
        (id, terms) = _commit(object, workers[0], RENT);
    }

    /// @dev The same, and tomorrow with its randomness.
    function _due() private returns (uint24 day) {
        _one();
        day = _today() + 1;
        _warpDay(day);
        _publish();
    }

    function _err(bytes4 selector, uint256 a) private pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, a);
    }

    function _err(bytes4 selector, uint256 a, uint256 b) private pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, a, b);
    }

    function _bounds(uint256 value, uint256 low, uint256 high) private pure returns (bytes memory) {
        return abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, value, low, high);
    }

    function _bad(IStorageWords.Status have, IStorageWords.Status want) private pure returns (bytes memory) {
        return abi.encodeWithSelector(AlephErrors.BadState.selector, have, want);
    }

    function _bad(IStorageWords.ChallengeState have, IStorageWords.ChallengeState want)
        private
        pure
        returns (bytes memory)
    {
        return abi.encodeWithSelector(AlephErrors.BadState.selector, have, want);
    }

    /* NODES */

    function test_enlist_followsTheRegistry() public {
        Party memory w = workers[0];
        vm.expectEmit(address(storages));
        emit IStorageWords.SignerNoted(w.id, w.signer);
        storages.enlist(w.id);
        assertEq(storages.store(w.id).signer, w.signer);
        assertTrue(storages.isSignerOf(w.id, w.signer));
        vm.recordLogs();
        storages.enlist(w.id);
        assertEq(vm.getRecordedLogs().length, 0, "nothing changes, nothing is told");
        vm.prank(w.owner);
        nodes.drain(w.id);
        vm.expectEmit(address(storages));
        emit IStorageWords.SignerNoted(w.id, address(0));
        storages.enlist(w.id);
        assertEq(storages.store(w.id).signer, address(0));
        assertTrue(storages.isSignerOf(w.id, w.signer), "old receipts count");
        storages.enlist(77);
        assertEq(storages.store(77).signer, address(0));
        assertFalse(storages.isSignerOf(77, address(0)));
    }

    function test_commit_refusesANodeThatIsNotActive() public {
        Party memory w = workers[0];
        vm.prank(w.owner);
        nodes.drain(w.id);
        IStorageWords.Request memory r = _request(object, w.id, 0);
        bytes memory sig = _requestSig(r, payer, w.key);
        vm.expectRevert(_err(IStorageWords.NotEnlisted.selector, w.id));
        vm.prank(payer);
        storages.commit(r, sig);
    }

    /* OBJECTS */

    function test_commit_keepsOneHashAndTells() public {
        Party memory w = workers[0];
        IStorageWords.Request memory r = _request(object, w.id, 0);
        IStorageWords.Terms memory t = _termsOf(r, payer);
        bytes memory sig = _requestSig(r, payer, w.key);
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "StoreRequest(address payer,uint32 nodeId,bytes32 root,uint64 size,bytes32 itemHash,uint24 untilDay,uint8 k,uint8 token,uint96 rateQ32,uint40 deadline)"
                ),
                payer,
                r
            )
        );
        assertEq(storages.commitDigest(payer, r), _digest("AlephStorage", address(storages), structHash));
        uint128 want = uint128(w.id) << 96 | uint96(uint256(structHash)) | 1;
        vm.expectEmit(address(storages));
        emit IStorageWords.Committed(
            want, payer, r.itemHash, r.root, r.size, t.sinceDay, r.untilDay, r.k, r.token, r.rateQ32
        );
        vm.prank(payer);
        id = storages.commit(r, sig);
        assertEq(id, want);
        IStorageWords.CommitmentView memory c = storages.commitment(id);
        assertEq(uint8(c.status), uint8(IStorageWords.Status.Active));
        assertEq(c.termsHash, keccak256(abi.encode(t)));
        assertEq(storages.activeCommitments(w.id), 1);
        assertEq(uint8(storages.commitment(1).status), uint8(IStorageWords.Status.None));
    }

    function test_commit_startsTheRent() public {
        _one();
        assertEq(payments.pair(payer, ALEPH, Payees.ofStorage(workers[0].id)).rateQ32, RENT);
    }

    function test_commit_consentCountsOnce() public {
        Party memory w = workers[0];
        IStorageWords.Request memory r = _request(object, w.id, 0);
        bytes memory sig = _requestSig(r, payer, w.key);
        vm.startPrank(payer);
        id = storages.commit(r, sig);
        vm.expectRevert(_err(AlephErrors.Duplicate.selector, id));
        storages.commit(r, sig);
        vm.stopPrank();
        vm.expectRevert(_err(AlephErrors.BadSignature.selector, 0));
        storages.commit(r, sig);
        vm.warp(r.deadline + 1);
        vm.expectRevert(_err(AlephErrors.Expired.selector, r.deadline));
        storages.commit(r, sig);
    }

    function test_commit_inTheLastSecond() public {
        IStorageWords.Request memory r = _request(_object(1, 700), workers[0].id, 0);
        bytes memory sig = _requestSig(r, payer, workers[0].key);
        vm.warp(r.deadline);
        vm.prank(payer);
        id = storages.commit(r, sig);
        assertEq(uint8(storages.commitment(id).status), uint8(IStorageWords.Status.Active));
    }

    function testFuzz_commit_signatureBindsEverything(uint256 field, uint256 value) public {
        Party memory w = workers[0];
        IStorageWords.Request memory r = _request(object, w.id, 0);
        bytes memory sig = _requestSig(r, payer, w.key);
        field %= 8;
        if (field == 0) r.root = keccak256(abi.encode(value));
        if (field == 1) r.size = uint64(bound(value, 1501, 1 << 48));
        if (field == 2) r.itemHash = keccak256(abi.encode(value));
        if (field == 3) r.untilDay -= uint24(bound(value, 1, 98));
        if (field == 4) r.k = uint8(bound(value, 3, 20));
        if (field == 5) r.token = uint8(bound(value, 2, 255));
        if (field == 6) r.rateQ32 = uint96(bound(value, 1, type(uint96).max));
        if (field == 7) r.deadline += uint40(bound(value, 1, 1e9));
        vm.expectRevert(_err(AlephErrors.BadSignature.selector, 0));
        vm.prank(payer);
        storages.commit(r, sig);
    }

    function _refuse(IStorageWords.Request memory r, bytes memory err) private {
        vm.expectRevert(err);
        storages.commit(r, "");
    }

    function test_commit_refusesBadInput() public {
        IStorageWords.Request memory good = _request(object, workers[0].id, 0);
        IStorageWords.Request memory r = _request(object, workers[0].id, 0);
        r.root = 0;
        _refuse(r, abi.encodeWithSelector(IStorageWords.ZeroRoot.selector));
        (r.root, r.itemHash) = (good.root, 0);
        _refuse(r, abi.encodeWithSelector(AlephErrors.ZeroHash.selector));
        (r.itemHash, r.size) = (good.itemHash, 0);
        _refuse(r, _bounds(0, 1, 1 << 48));
        r.size = (1 << 48) + 1;
        _refuse(r, _bounds((1 << 48) + 1, 1, 1 << 48));
        (r.size, r.untilDay) = (good.size, DAY0 + 1);
        _refuse(r, _bounds(DAY0 + 1, DAY0 + 2, DAY0 + 3660));
        r.untilDay = DAY0 + 3661;
        _refuse(r, _bounds(DAY0 + 3661, DAY0 + 2, DAY0 + 3660));
        (r.untilDay, r.k) = (good.untilDay, 0);
        _refuse(r, _bounds(0, 1, 20));
        r.k = 21;
        _refuse(r, _bounds(21, 1, 20));
        r.k = 20;
        _refuse(r, _err(AlephErrors.BadSignature.selector, 0));
    }

    function test_entry_isPaused() public {
        storages.pause(Pausing.ENTRY, 1 days);
        bytes memory err = _err(AlephErrors.Paused.selector, Pausing.ENTRY);
        IStorageWords.Request memory r = _request(object, workers[0].id, 0);
        vm.expectRevert(err);
        storages.commit(r, "");
        vm.expectRevert(err);
        storages.extend(id, terms, 1, "");
        vm.expectRevert(err);
        storages.repair(id, terms, 1, "", "");
        vm.expectRevert(err);
        storages.commitBundle(1, 0, 0, 0);
    }

    function test_extend_changesTheEnd() public {
        _one();
        uint24 until = terms.untilDay + 50;
        bytes memory sig = _sign(workers[0].key, storages.extendDigest(id, until));
        vm.expectEmit(address(storages));
        emit IStorageWords.Extended(id, until);
        vm.prank(payer);
        storages.extend(id, terms, until, sig);
        vm.expectRevert(_err(IStorageWords.WrongTerms.selector, id));
        storages.release(id, terms);
        terms.untilDay = until;
        assertEq(storages.commitment(id).termsHash, keccak256(abi.encode(terms)));
    }

    function test_extend_refuses() public {
        _one();
        uint24 until = terms.untilDay + 50;
        bytes memory sig = _sign(workers[0].key, storages.extendDigest(id, until));
        vm.expectRevert(_err(AlephErrors.NotAuthorized.selector, uint160(address(this))));
        storages.extend(id, terms, until, sig);
        vm.startPrank(payer);
        vm.expectRevert(_err(AlephErrors.BadSignature.selector, 0));
        storages.extend(id, terms, until + 1, sig);
        vm.expectRevert(_bounds(terms.untilDay, terms.untilDay + 1, DAY0 + 3660));
        storages.extend(id, terms, terms.untilDay, sig);
        vm.expectRevert(_bounds(DAY0 + 3661, terms.untilDay + 1, DAY0 + 3660));
        storages.extend(id, terms, DAY0 + 3661, sig);
        uint256 state = vm.snapshotState();
        sig = _sign(workers[0].key, storages.extendDigest(id, DAY0 + 3660));
        storages.extend(id, terms, DAY0 + 3660, sig);
        vm.revertToState(state);
        _warpDay(terms.untilDay);
        vm.expectRevert(_err(IStorageWords.NotDue.selector, id, terms.untilDay));
        storages.extend(id, terms, until, sig);
        storages.release(id, terms);
        vm.expectRevert(_bad(IStorageWords.Status.Closed, IStorageWords.Status.Active));
        storages.extend(id, terms, until, sig);
        vm.stopPrank();
    }

    function test_release_byThePayerAtAnyTime() public {
        uint24 day = _due();
        vm.expectEmit(address(storages));
        emit IStorageWords.StatusChanged(id, IStorageWords.Status.Closed, day);
        vm.prank(payer);
        storages.release(id, terms);
        assertEq(storages.activeCommitments(workers[0].id), 0);
        assertEq(payments.pair(payer, ALEPH, Payees.ofStorage(workers[0].id)).rateQ32, 0);
        vm.expectRevert(_err(IStorageWords.NotDue.selector, id, day));
        storages.prove(id, terms, day, "");
        vm.expectRevert(_bad(IStorageWords.Status.Closed, IStorageWords.Status.Active));
        vm.prank(payer);
        storages.release(id, terms);
    }

    function test_release_byAnyoneFromTheEndOn() public {
        _one();
        _warpDay(terms.untilDay - 1);
        vm.expectRevert(_err(AlephErrors.NotAuthorized.selector, uint160(address(this))));
        storages.release(id, terms);
        _warpDay(terms.untilDay);
        vm.expectEmit(address(storages));
        emit IStorageWords.StatusChanged(id, IStorageWords.Status.Closed, terms.untilDay);
        storages.release(id, terms);
        assertEq(payments.pair(payer, ALEPH, Payees.ofStorage(workers[0].id)).rateQ32, 0);
    }

    function testFuzz_terms_nothingElsePasses(uint256 field, uint256 value) public {
        _one();
        IStorageWords.Terms memory t = terms;
        bytes memory data = abi.encodeCall(storages.release, (id, t));
        // Any other word in any place of the terms, the bits that do not count included.
        uint256 place = 4 + 32 + 32 * (field % 9);
        bytes32 other = bytes32(value);
        bytes32 have;
        assembly ("memory-safe") {
            have := mload(add(add(data, 0x20), place))
            mstore(add(add(data, 0x20), place), other)
        }
        vm.assume(other != have);
        vm.prank(payer);
        (bool ok, bytes memory err) = address(storages).call(data);
        assertFalse(ok);
        if (err.length != 0) assertEq(err, _err(IStorageWords.WrongTerms.selector, id));
    }

    /* BUNDLES */

    function test_commitBundle_countsFromTomorrow() public {
        Party memory w = workers[0];
        bytes[] memory objects = _objects(1, 3);
        (bytes32 root, uint64 total) = Asp1.bundle(objects);
        vm.expectEmit(address(storages));
        emit IStorageWords.StatusChanged(_bundleId(w.id), IStorageWords.Status.Active, 0);
        vm.expectEmit(address(storages));
        emit IStorageWords.CapacitySet(w.id, 1 << 20);
        vm.expectEmit(address(storages));
        emit IStorageWords.BundleUpdated(w.id, root, total, DAY0 + 1);
        _openBundle(w, objects);
        assertEq(storages.bundleOn(w.id, DAY0), bytes30(0));
        assertEq(storages.bundleOn(w.id, DAY0 + 1), StorageProof.bind(root, total));
        assertEq(storages.activeCommitments(w.id), 1);
        assertEq(storages.store(w.id).capacity, 1 << 20);
        assertEq(storages.commitment(_bundleId(w.id)).sinceDay, DAY0 + 1);
        vm.expectRevert(_err(AlephErrors.Duplicate.selector, _bundleId(w.id)));
        vm.prank(w.signer);
        storages.commitBundle(w.id, root, total, 1);
    }

    function test_commitBundle_refuses() public {
        Party memory w = workers[0];
        vm.expectRevert(_err(AlephErrors.NotAuthorized.selector, uint160(address(this))));
        storages.commitBundle(w.id, "root", 1, 1);
        vm.startPrank(w.signer);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        storages.commitBundle(w.id, "root", 1, 0);
        vm.expectRevert(IStorageWords.ZeroRoot.selector);
        storages.commitBundle(w.id, 0, 1, 1);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        storages.commitBundle(w.id, "root", 0, 1);
        vm.expectRevert(_err(IStorageWords.AboveCapacity.selector, 3, 2));
        storages.commitBundle(w.id, "root", 3, 2);
        // 10,000 ALEPH of the owner's are enough for 200 TiB.
        vm.expectRevert(_err(IStorageWords.StakeTooLow.selector, 10_000 ether, 10_050 ether));
        storages.commitBundle(w.id, "root", 3, 201 << 32);
        storages.commitBundle(w.id, "root", 3, 200 << 32);
        vm.stopPrank();
    }

    function test_resizeBundle_needsStakeToGrow() public {
        Party memory w = workers[0];
        _openBundle(w, _objects(1, 3));
        vm.expectRevert(_err(AlephErrors.NotAuthorized.selector, uint160(address(this))));
        storages.resizeBundle(w.id, 1);
        vm.startPrank(w.signer);
        vm.expectRevert(_err(IStorageWords.StakeTooLow.selector, 10_000 ether, 10_050 ether));
        storages.resizeBundle(w.id, 201 << 32);
        storages.resizeBundle(w.id, 5);
        assertEq(storages.store(w.id).capacity, 5);
        storages.resizeBundle(w.id, 200 << 32);
        vm.stopPrank();
        storages.setParameters(256, 100, 1, 6);
        vm.startPrank(w.signer);
        vm.expectEmit(address(storages));
        emit IStorageWords.CapacitySet(w.id, 200 << 32);
        storages.resizeBundle(w.id, 200 << 32);
        storages.resizeBundle(w.id, 5);
        vm.expectRevert(_err(IStorageWords.AboveCapacity.selector, 6, 5));
        storages.updateBundle(w.id, "root", 6);
        storages.resizeBundle(w.id, 6);
        storages.updateBundle(w.id, "root", 6);
        vm.stopPrank();
        vm.prank(workers[1].signer);
        storages.commitBundle(workers[1].id, "root", 1, 1);
        vm.prank(workers[2].signer);
        vm.expectRevert(_err(AlephErrors.NotAuthorized.selector, uint160(workers[2].signer)));
        storages.resizeBundle(workers[1].id, 6);
    }

    function test_resizeBundle_needsABundle() public {
        storages.enlist(workers[0].id);
        vm.expectRevert(_err(IStorageWords.NoBundle.selector, workers[0].id));
        vm.prank(workers[0].signer);
        storages.resizeBundle(workers[0].id, 1);
        vm.expectRevert(_err(IStorageWords.NoBundle.selector, workers[0].id));
        vm.prank(workers[0].signer);
        storages.updateBundle(workers[0].id, "root", 1);
    }

    /// @dev SR-4: an update never changes what is due today.
    function testFuzz_SR4_updatesCountFromTheNextDay(uint256 steps) public {
        Party memory w = workers[0];
        _openBundle(w, _objects(1, 1));
        bytes30 next = storages.bundleOn(w.id, DAY0 + 1);
        bytes30 today;
        uint24 day = DAY0;
        vm.startPrank(w.signer);
        for (uint256 i; i < 12; ++i) {
            steps = uint256(keccak256(abi.encode(steps)));
            uint24 gap = uint24(steps % 3);
            if (gap != 0) (day, today) = (day + gap, next);
            _warpDay(day);
            bytes32 root = keccak256(abi.encode(steps));
            storages.updateBundle(w.id, root, uint64(1 + steps % 9));
            next = StorageProof.bind(root, 1 + steps % 9);
            assertEq(storages.bundleOn(w.id, day), today);
            assertEq(storages.bundleOn(w.id, day + 1), next);
            assertEq(storages.bundleOn(w.id, day + 9), next);
        }
    }

    function test_updateBundle_onlyTheSigner() public {
        _openBundle(workers[0], _objects(1, 1));
        vm.expectRevert(_err(AlephErrors.NotAuthorized.selector, uint160(workers[0].owner)));
        vm.prank(workers[0].owner);
        storages.updateBundle(workers[0].id, "root", 1);
    }

    function test_closeBundle_givesNotice() public {
        Party memory w = workers[0];
        uint128 bid = _bundleId(w.id);
        _openBundle(w, _objects(1, 2));
        vm.expectRevert(_err(AlephErrors.TooSoon.selector, 0));
        storages.endBundle(w.id);
        vm.expectEmit(address(storages));
        emit IStorageWords.BundleClosing(w.id, DAY0 + 15);
        vm.prank(w.signer);
        storages.closeBundle(w.id);
        vm.expectRevert(_err(AlephErrors.Duplicate.selector, bid));
        vm.prank(w.signer);
        storages.closeBundle(w.id);
        _warpDay(DAY0 + 14);
        _publish();
        _proveBundle(w.id, _objects(1, 2), DAY0 + 14);
        vm.expectRevert(_err(AlephErrors.TooSoon.selector, uint256(DAY0 + 15) * 1 days));
        storages.endBundle(w.id);
        _warpDay(DAY0 + 15);
        vm.expectEmit(address(storages));
        emit IStorageWords.StatusChanged(bid, IStorageWords.Status.Closed, DAY0 + 15);
        storages.endBundle(w.id);
        assertEq(storages.activeCommitments(w.id), 0);
        vm.expectRevert(_bad(IStorageWords.Status.Closed, IStorageWords.Status.Active));
        storages.endBundle(w.id);
        _publish();
        vm.expectRevert(_err(IStorageWords.NotDue.selector, bid, DAY0 + 15));
        storages.proveBundle(w.id, 1, DAY0 + 15, "");
        // And again.
        _openBundle(w, _objects(5, 1));
        assertEq(storages.commitment(bid).sinceDay, DAY0 + 16);
        assertEq(storages.commitment(bid).endDay, 0);
        assertEq(storages.activeCommitments(w.id), 1);
    }

    function test_holdBundle_untilTheReceiptEnds() public {
        Party memory w = workers[0];
        bytes[] memory objects = _objects(1, 2);
        _openBundle(w, objects);
        IStorageWords.StorageReceipt memory r = _receipt(w.id, objects[0]);
        bytes memory sig = _sign(w.key, storages.receiptDigest(r));
        vm.expectRevert(_err(IStorageWords.NotDue.selector, _bundleId(w.id), DAY0));
        storages.holdBundle(r, sig);
        _warpDay(DAY0 + 1);
        vm.expectRevert(_bounds(r.untilDay, 1, type(uint24).max));
        storages.holdBundle(r, sig);
        vm.prank(w.signer);
        storages.closeBundle(w.id);
        vm.expectEmit(address(storages));
        emit IStorageWords.BundleClosing(w.id, r.untilDay);
        storages.holdBundle(r, sig);
        vm.expectRevert(_bounds(r.untilDay, uint256(r.untilDay) + 1, type(uint24).max));
        storages.holdBundle(r, sig);
        r.untilDay += 1;
        vm.expectRevert(_err(AlephErrors.BadSignature.selector, 0));
        storages.holdBundle(r, sig);
        r.nodeId = workers[1].id;
        storages.enlist(r.nodeId);
        sig = _sign(workers[1].key, storages.receiptDigest(r));
        vm.expectRevert(_err(IStorageWords.NoBundle.selector, r.nodeId));
        storages.holdBundle(r, sig);
    }

    function test_holdBundle_notAfterItsEnd() public {
        Party memory w = workers[0];
        bytes[] memory objects = _objects(1, 2);
        _openBundle(w, objects);
        IStorageWords.StorageReceipt memory r = _receipt(w.id, objects[0]);
        bytes memory sig = _sign(w.key, storages.receiptDigest(r));
        vm.prank(w.signer);
        storages.closeBundle(w.id);
        _warpDay(DAY0 + 15);
        vm.expectRevert(_err(IStorageWords.NotDue.selector, _bundleId(w.id), DAY0 + 15));
        storages.holdBundle(r, sig);
    }

    /* BEACON */

    /// @dev SR-3: once a day, of the day's round.
    function test_publishBeacon_verifiesTheDaysRound() public {
        string memory json = vm.readFile("../protocol/testdata/vectors/drand.json");
        uint256[2] memory sig = abi.decode(vm.parseJsonBytes(json, ".cases[1].signature"), (uint256[2]));
        uint24 day = 20_255;
        vm.expectRevert(_err(AlephErrors.TooSoon.selector, uint256(day) * 1 days));
        storages.publishBeacon(day, sig);
        _warpDay(day);
        vm.expectRevert(_err(IDrandVerifier.BeaconInvalid.selector, 1));
        storages.publishBeacon(day, [sig[0], sig[1] + 1]);
        vm.expectEmit(address(storages));
        emit IStorageWords.BeaconPublished(day, 1, sha256(abi.encode(sig)));
        storages.publishBeacon(day, sig);
        assertEq(storages.seedOf(day), sha256(abi.encode(sig)));
        vm.expectRevert(_err(AlephErrors.Duplicate.selector, day));
        storages.publishBeacon(day, sig);
        _warpDay(day + 1);
        vm.expectRevert(_err(IStorageWords.DayClosed.selector, day));
        storages.publishBeacon(day, sig);
        sig = abi.decode(vm.parseJsonBytes(json, ".cases[2].signature"), (uint256[2]));
        storages.publishBeacon(day + 1, sig);
    }

    /* PROOFS */

    function test_prove_marksTheDay() public {
        uint24 day = _due();
        bytes memory proofs = Asp1.prove(object, storages.seedOf(day), id, terms.k);
        vm.expectEmit(address(storages));
        emit IStorageWords.Proven(id, day);
        storages.prove(id, terms, day, proofs);
        IStorageWords.CommitmentView memory c = storages.commitment(id);
        assertEq(c.newestDay, day);
        assertEq(c.proven, 1);
        assertEq(c.missed, 0);
        assertEq(uint8(c.status), uint8(IStorageWords.Status.Active));
        vm.expectRevert(_err(IStorageWords.AlreadyProven.selector, id, day));
        storages.prove(id, terms, day, proofs);
    }

    function test_prove_anOlderDayAfterANewerOne() public {
        uint24 day = _due();
        _warpDay(day + 1);
        _publish();
        _prove(id, terms, object, day + 1);
        _prove(id, terms, object, day);
        assertEq(storages.commitment(id).proven, 3);
        assertEq(storages.commitment(id).newestDay, day + 1);
        vm.expectRevert(_err(IStorageWords.AlreadyProven.selector, id, day));
        storages.prove(id, terms, day, "");
    }

    function test_prove_refuses() public {
        uint24 day = _due();
        vm.expectRevert(_err(IStorageWords.NotDue.selector, id, day - 1));
        storages.prove(id, terms, day - 1, "");
        vm.expectRevert(_err(IStorageWords.NotDue.selector, id, terms.untilDay));
        storages.prove(id, terms, terms.untilDay, "");
        vm.expectRevert(_err(IStorageWords.BeaconMissing.selector, day + 1));
        storages.prove(id, terms, day + 1, "");
        vm.expectRevert(_err(StorageProof.BadLength.selector, 0, 2 * (256 + 96)));
        storages.prove(id, terms, day, "");
        bytes memory proofs = Asp1.prove(_object(2, 1500), storages.seedOf(day), id, terms.k);
        vm.expectRevert(_err(StorageProof.BadProof.selector, 0));
        storages.prove(id, terms, day, proofs);
        terms.k = 1;
        vm.expectRevert(_err(IStorageWords.WrongTerms.selector, id));
        storages.prove(id, terms, day, proofs);
        terms.k = 2;
        _warpDay(day + 8);
        proofs = Asp1.prove(object, storages.seedOf(day), id, terms.k);
        uint256 snapshot = vm.snapshotState();
        storages.prove(id, terms, day, proofs);
        vm.revertToState(snapshot);
        _warpDay(day + 9);
        vm.expectRevert(_err(IStorageWords.DayClosed.selector, day));
        storages.prove(id, terms, day, proofs);
    }

    /// @dev SR-8 through the whole contract.
    function testFuzz_SR8_prove(uint256 place, uint8 bit) public {
        uint24 day = _due();
        bytes memory proofs = Asp1.prove(object, storages.seedOf(day), id, terms.k);
        place = bound(place, 0, proofs.length - 1);
        proofs[place] ^= bytes1(uint8(1 << (bit % 8)));
        vm.expectRevert(_err(StorageProof.BadProof.selector, place / 352));
        storages.prove(id, terms, day, proofs);
    }

    function test_proveMany_tellsOfEach() public {
        uint128[] memory ids = new uint128[](3);
        IStorageWords.Terms[] memory all = new IStorageWords.Terms[](3);
        bytes[] memory proofs = new bytes[](3);
        for (uint256 i; i < 3; ++i) {
            (ids[i], all[i]) = _commit(_object(i, 700), workers[i], 0);
        }
        uint24 day = _today() + 1;
        _warpDay(day);
        _publish();
        for (uint256 i; i < 3; ++i) {
            proofs[i] = Asp1.prove(_object(i, 700), storages.seedOf(day), ids[i], 2);
        }
        proofs[1][5] ^= 0x01;
        vm.expectEmit(address(storages));
        emit IStorageWords.Proven(ids[0], day);
        vm.expectEmit(address(storages));
        emit IStorageWords.ProofRefused(ids[1], day, StorageProof.BadProof.selector);
        vm.expectEmit(address(storages));
        emit IStorageWords.Proven(ids[2], day);
        assertEq(storages.proveMany(ids, all, day, proofs), 5);
        vm.expectEmit(address(storages));
        emit IStorageWords.ProofRefused(ids[0], day, IStorageWords.AlreadyProven.selector);
        assertEq(storages.proveMany(ids, all, day, proofs), 0);
        vm.expectRevert(_bounds(0, 1, 64));
        storages.proveMany(new uint128[](0), all, day, proofs);
        vm.expectRevert(_bounds(65, 1, 64));
        storages.proveMany(new uint128[](65), all, day, proofs);
        assertEq(
            storages.proveMany(new uint128[](64), new IStorageWords.Terms[](64), day, new bytes[](64)), 0, "none of 64"
        );
        vm.expectRevert(_bounds(3, 2, 2));
        storages.proveMany(new uint128[](2), all, day, proofs);
        vm.expectRevert(_bounds(2, 3, 3));
        storages.proveMany(ids, all, day, new bytes[](2));
    }

    function test_proveBundle_todaysRootStaysProvable() public {
        Party memory w = workers[0];
        bytes[] memory before = _objects(1, 5);
        _openBundle(w, before);
        _warpDay(DAY0 + 1);
        _publish();
        bytes[] memory after_ = _objects(2, 9);
        (bytes32 root, uint64 total) = Asp1.bundle(after_);
        vm.prank(w.signer);
        storages.updateBundle(w.id, root, total);
        bytes memory proofs = Asp1.proveBundle(after_, storages.seedOf(DAY0 + 1), _bundleId(w.id), 5);
        vm.expectRevert(_err(StorageProof.BadProof.selector, 0));
        storages.proveBundle(w.id, total, DAY0 + 1, proofs);
        vm.expectEmit(address(storages));
        emit IStorageWords.Proven(_bundleId(w.id), DAY0 + 1);
        _proveBundle(w.id, before, DAY0 + 1);
        _warpDay(DAY0 + 2);
        _publish();
        _proveBundle(w.id, after_, DAY0 + 2);
        assertEq(storages.commitment(_bundleId(w.id)).proven, 3);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        this.zeroTotal(w.id);
    }

    function zeroTotal(uint32 nodeId) external {
        _warpDay(DAY0 + 3);
        _publish();
        storages.proveBundle(nodeId, 0, DAY0 + 3, "");
    }

    function test_proveBundle_needsABundle() public {
        _warpDay(DAY0 + 1);
        _publish();
        vm.expectRevert(_err(IStorageWords.NotDue.selector, _bundleId(5), DAY0 + 1));
        storages.proveBundle(5, 1, DAY0 + 1, "");
    }

    function test_bundleChallenges_growWithTheBundle() public view {
        uint64 tib = 1 << 32;
        assertEq(storages.bundleChallenges(1), 5);
        assertEq(storages.bundleChallenges(10 * tib), 5);
        assertEq(storages.bundleChallenges(10 * tib + 1), 10);
        assertEq(storages.bundleChallenges(256 * tib), 130);
    }

    function test_challengesOf_areTheIndices() public {
        uint24 day = _due();
        uint256[] memory indices = storages.challengesOf(id, day, 6, 4);
        for (uint256 j; j < 4; ++j) {
            assertEq(indices[j], Asp1.indexOf(storages.seedOf(day), id, j, 6));
        }
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        storages.challengesOf(id, day, 0, 4);
        vm.expectRevert(_err(IStorageWords.BeaconMissing.selector, day + 1));
        storages.challengesOf(id, day + 1, 6, 4);
    }

    /* ATTESTATION */

    function _bitsOf(uint32 nodeId) private pure returns (uint32[] memory ids) {
        ids = new uint32[](1);
        ids[0] = nodeId;
    }

    /// @dev A day whose sample has the node, or has it not.
    function _dayWith(uint32 nodeId, bool sampled) private returns (uint24 day) {
        day = _today() + 1;
        while ((uint256(keccak256(abi.encode(_seed(day), nodeId))) % 16 == 0) != sampled) ++day;
        _warpDay(day);
        _publish();
        assertEq(storages.isSampled(nodeId, day), sampled);
    }

    function test_attestDay_countsUnlessSampled() public {
        nodes.snapshotCoordinators();
        _one();
        uint24 day = _dayWith(workers[0].id, false);
        nodes.snapshotCoordinators();
        bytes memory bitmap = _bitmap(2, _bitsOf(workers[0].id));
        bytes32 root = storages.bitmapRoot(bitmap);
        vm.expectEmit(address(storages));
        emit IStorageWords.DayAttested(day, root, bitmap, 7);
        _attest(day, bitmap);
        assertEq(storages.attestedRoot(day), bytes32(bytes30(root)));
        vm.expectRevert(_err(AlephErrors.Duplicate.selector, day));
        storages.attestDay(day, bitmap, "");
        _warpPast(day);
        bytes32[] memory path = new bytes32[](1);
        path[0] = keccak256(abi.encodePacked(uint256(1), new bytes(256)));
        IStorageWords.BitmapPart memory bits;
        (bits.part[0], bits.path) = (bytes32(uint256(1) << workers[0].id), path);
        vm.expectRevert(_err(IStorageWords.Attested.selector, workers[0].id, day));
        storages.reportMissed(id, terms, day, bits);
        bits.part[0] = 0;
        vm.expectRevert(_err(IStorageWords.WrongBitmap.selector, day));
        storages.reportMissed(id, terms, day, bits);
        // A node in the sample must prove on the chain.
        day = _dayWith(workers[0].id, true);
        nodes.snapshotCoordinators();
        _attest(day, bitmap);
        _warpPast(day);
        storages.reportMissed(id, terms, day, _noBits());
    }

    function test_attestDay_withoutTheBitSavesNobody() public {
        _one();
        uint24 day = _dayWith(workers[0].id, false);
        nodes.snapshotCoordinators();
        _attest(day, _bitmap(1, _bitsOf(workers[1].id)));
        _warpPast(day);
        vm.expectRevert(_err(IStorageWords.WrongBitmap.selector, day));
        storages.reportMissed(id, terms, day, _noBits());
        IStorageWords.BitmapPart memory bits;
        bits.part[0] = bytes32(uint256(1) << workers[1].id);
        storages.reportMissed(id, terms, day, bits);
        assertEq(storages.commitment(id).missed, 1);
    }

    /// @dev Node ids beyond the bitmap have no bit in it. That many nodes are not made here; the id is given to one.
    function test_attestDay_savesNobodyBeyondTheBitmap() public {
        uint32 far = 2_048;
        vm.mockCall(address(nodes), abi.encodeCall(nodes.isActive, (far)), abi.encode(true));
        vm.mockCall(address(nodes), abi.encodeCall(nodes.signerOf, (far)), abi.encode(workers[0].signer));
        vm.mockCall(address(staking), abi.encodeCall(staking.totalStake, (far)), abi.encode(1 ether, 0, 0));
        vm.prank(workers[0].signer);
        storages.commitBundle(far, "root", 1, 1);
        uint24 day = _dayWith(far, false);
        nodes.snapshotCoordinators();
        _attest(day, _bitmap(1, _bitsOf(1)));
        _warpPast(day);
        storages.reportMissedBundle(far, day, _noBits());
        assertEq(storages.commitment(_bundleId(far)).missed, 1);
    }

    function test_attestDay_refuses() public {
        uint24 day = _due();
        nodes.snapshotCoordinators();
        bytes memory bitmap = _bitmap(1, _bitsOf(1));
        vm.expectRevert(_bounds(0, 256, 256 * 128));
        storages.attestDay(day, "", "");
        vm.expectRevert(_bounds(255, 256, 256 * 128));
        storages.attestDay(day, new bytes(255), "");
        vm.expectRevert(_bounds(257, 256, 256 * 128));
        storages.attestDay(day, new bytes(257), "");
        vm.expectRevert(_bounds(256 * 129, 256, 256 * 128));
        storages.attestDay(day, new bytes(256 * 129), "");
        vm.expectRevert(_err(IStorageWords.BeaconMissing.selector, day + 1));
        storages.attestDay(day + 1, bitmap, "");
        bytes32 digest = storages.attestationDigest(day, storages.bitmapRoot(bitmap));
        INodeRegistry.Quorum memory q = nodes.quorum(digest, _quorumSigs(digest, 2));
        // Two of three are exactly two thirds, which is not more.
        bytes memory sigs = _quorumSigs(digest, 2);
        vm.expectRevert(_err(IStorageWords.QuorumLow.selector, q.weight, q.total));
        storages.attestDay(day, bitmap, sigs);
        sigs = _quorumSigs("another", 3);
        vm.expectRevert(_err(AlephErrors.BadSignature.selector, 0));
        storages.attestDay(day, bitmap, sigs);
        _warpPast(day);
        vm.expectRevert(_err(IStorageWords.DayClosed.selector, day));
        storages.attestDay(day, bitmap, "");
        // While it cannot be reported, it can be attested.
        _mockOutage(3600);
        sigs = _quorumSigs(digest, 3);
        storages.attestDay(day, bitmap, sigs);
        bytes32[] memory nodes_ = new bytes32[](128);
        for (uint256 i; i < 128; ++i) {
            nodes_[i] = keccak256(abi.encodePacked(i, new bytes(256)));
        }
        for (uint256 n = 64; n != 0; n /= 2) {
            for (uint256 i; i < n; ++i) {
                nodes_[i] = keccak256(abi.encode(nodes_[2 * i], nodes_[2 * i + 1]));
            }
        }
        assertEq(storages.bitmapRoot(new bytes(256 * 128)), nodes_[0]);
        vm.expectRevert(_bounds(0, 256, 256 * 128));
        storages.bitmapRoot("");
        vm.expectRevert(_bounds(5, 256, 256 * 128));
        storages.bitmapRoot("12345");
    }

    /* MISSED DAYS */

    function _expectViolation(uint24 day, uint16 severity) private {
        vm.expectCall(
            slaAt,
            abi.encodeCall(
                ISLAManager.recordViolation,
                (ISLAManager.Kind.StorageMiss, workers[0].id, bytes32(uint256(id)), day, severity, address(this), payer)
            )
        );
    }

    function test_reportMissed_givesTheRentBackAndFiles() public {
        _one();
        skip(1 hours);
        payments.pull(payer, ALEPH);
        payments.claim(Payees.ofStorage(workers[0].id), ALEPH, _payers());
        uint24 day = _today() + 1;
        _warpDay(day);
        _publish();
        skip(10 hours);
        payments.pull(payer, ALEPH);
        payments.claim(Payees.ofStorage(workers[0].id), ALEPH, _payers());
        _warpPast(day);
        uint128 credit = payments.creditOf(Payees.ofStorage(workers[0].id), ALEPH);
        uint128 rent = uint128(1e12 * 1 days);
        assertLt(credit, rent);
        _expectViolation(day, 0);
        vm.expectEmit(address(storages));
        emit IStorageWords.Missed(id, day, 1, credit, address(this));
        storages.reportMissed(id, terms, day, _noBits());
        assertEq(payments.creditOf(Payees.ofStorage(workers[0].id), ALEPH), 0);
        vm.expectRevert(_err(IStorageWords.AlreadyMissed.selector, id, day));
        storages.reportMissed(id, terms, day, _noBits());
        vm.expectRevert(_err(IStorageWords.AlreadyMissed.selector, id, day));
        storages.prove(id, terms, day, "");
    }

    function test_reportMissed_takesAtMostADaysRent() public {
        _one();
        uint24 day = _today() + 3;
        _warpDay(day);
        _publish();
        payments.pull(payer, ALEPH);
        payments.claim(Payees.ofStorage(workers[0].id), ALEPH, _payers());
        uint128 credit = payments.creditOf(Payees.ofStorage(workers[0].id), ALEPH);
        _warpPast(day);
        vm.expectEmit(address(storages));
        emit IStorageWords.Missed(id, day, 1, uint128(1e12 * 1 days), address(this));
        storages.reportMissed(id, terms, day, _noBits());
        assertEq(payments.creditOf(Payees.ofStorage(workers[0].id), ALEPH), credit - 1e12 * 1 days);
    }

    function test_reportMissed_notBeforeTheGraceAndTheOutage() public {
        uint24 day = _due();
        uint256 late = uint256(day) * 1 days + 30 hours;
        vm.expectRevert(_err(AlephErrors.TooSoon.selector, late));
        storages.reportMissed(id, terms, day, _noBits());
        vm.warp(late);
        vm.expectRevert(_err(AlephErrors.TooSoon.selector, late));
        storages.reportMissed(id, terms, day, _noBits());
        _mockOutage(2 hours);
        vm.expectRevert(_err(AlephErrors.TooSoon.selector, late));
        storages.reportMissed(id, terms, day, _noBits());
        vm.warp(late + 2 hours);
        vm.expectCall(
            slaAt, abi.encodeCall(ISLAManager.outage, (uint40(uint256(day) * 1 days), uint40(block.timestamp)))
        );
        vm.expectRevert(_err(AlephErrors.TooSoon.selector, late + 2 hours));
        storages.reportMissed(id, terms, day, _noBits());
        vm.warp(late + 2 hours + 1);
        storages.reportMissed(id, terms, day, _noBits());
    }

    function test_reportMissed_refuses() public {
        uint24 day = _due();
        _prove(id, terms, object, day);
        _warpPast(day + 1);
        vm.expectRevert(_err(IStorageWords.AlreadyProven.selector, id, day));
        storages.reportMissed(id, terms, day, _noBits());
        vm.expectRevert(_err(IStorageWords.BeaconMissing.selector, day + 1));
        storages.reportMissed(id, terms, day + 1, _noBits());
        vm.expectRevert(_err(IStorageWords.NotDue.selector, id, day - 1));
        storages.reportMissed(id, terms, day - 1, _noBits());
        _publish();
        _warpDay(day + 11);
        vm.expectRevert(_err(IStorageWords.DayClosed.selector, day + 2));
        storages.reportMissed(id, terms, day + 2, _noBits());
        terms.nodeId += 1;
        vm.expectRevert(_err(IStorageWords.WrongTerms.selector, id));
        storages.reportMissed(id, terms, day + 2, _noBits());
        storages.pause(Pausing.PENALTY, 1 days);
        bytes memory err = _err(AlephErrors.Paused.selector, Pausing.PENALTY);
        vm.expectRevert(err);
        storages.reportMissed(id, terms, day, _noBits());
        vm.expectRevert(err);
        storages.reportMissedBundle(1, day, _noBits());
        vm.expectRevert(err);
        storages.expireChallenge(0);
    }

    /// @dev A reporter without the outage's end cannot be quicker than a node that proves late.
    function test_prove_aLateProofBeforeTheReport() public {
        uint24 day = _due();
        _warpPast(day);
        _prove(id, terms, object, day);
        vm.expectRevert(_err(IStorageWords.AlreadyProven.selector, id, day));
        storages.reportMissed(id, terms, day, _noBits());
    }

    function _miss(uint24 day) private {
        _warpDay(day);
        _publish();
        _warpPast(day);
        storages.reportMissed(id, terms, day, _noBits());
    }

    function test_reportMissed_threeOfSevenEndIt() public {
        _one();
        uint24 day = _today() + 1;
        _miss(day);
        _miss(day + 6);
        assertEq(uint8(storages.commitment(id).status), uint8(IStorageWords.Status.Active));
        _warpDay(day + 8);
        _publish();
        _warpPast(day + 8);
        assertEq(payments.pair(payer, ALEPH, Payees.ofStorage(workers[0].id)).rateQ32, RENT);
        // Days 6 and 8 and none of the five before.
        storages.reportMissed(id, terms, day + 8, _noBits());
        assertEq(uint8(storages.commitment(id).status), uint8(IStorageWords.Status.Active));
        _warpDay(day + 12);
        _publish();
        _warpPast(day + 12);
        _expectViolation(day + 12, 1);
        vm.expectEmit(address(storages));
        emit IStorageWords.StatusChanged(id, IStorageWords.Status.Faulty, day + 13);
        storages.reportMissed(id, terms, day + 12, _noBits());
        assertEq(payments.pair(payer, ALEPH, Payees.ofStorage(workers[0].id)).rateQ32, 0);
        assertEq(storages.activeCommitments(workers[0].id), 0);
        _warpDay(day + 14);
        _publish();
        vm.expectRevert(_err(IStorageWords.NotDue.selector, id, day + 14));
        storages.prove(id, terms, day + 14, "");
        vm.expectRevert(_bad(IStorageWords.Status.Faulty, IStorageWords.Status.Active));
        vm.prank(payer);
        storages.release(id, terms);
    }

    /// @dev The order of reports makes no difference to what makes three of seven.
    function testFuzz_reportMissed_anyOrder(uint256 days_) public {
        _one();
        uint24 first = _today() + 1;
        for (uint24 i; i < 8; ++i) {
            _warpDay(first + i);
            _publish();
        }
        _warpPast(first + 7);
        // Within the window of reports: the oldest day of these is the eighth.
        uint256 mask;
        uint256 worst;
        for (uint256 i; i < 3; ++i) {
            uint24 off = uint24((days_ >> (8 * i)) % 7) + 1;
            if ((mask >> off) & 1 != 0) continue;
            mask |= 1 << off;
            storages.reportMissed(id, terms, first + off, _noBits());
            ++worst;
        }
        bool faulty = storages.commitment(id).status == IStorageWords.Status.Faulty;
        assertEq(faulty, worst == 3);
    }

    function test_reportMissedBundle_neverEndsIt() public {
        Party memory w = workers[0];
        _openBundle(w, _objects(1, 2));
        uint128 bid = _bundleId(w.id);
        for (uint24 i = 1; i < 5; ++i) {
            uint24 day = DAY0 + i;
            _warpDay(day);
            _publish();
            _warpPast(day);
            vm.expectCall(
                slaAt,
                abi.encodeCall(
                    ISLAManager.recordViolation,
                    (
                        ISLAManager.Kind.StorageMiss,
                        w.id,
                        bytes32(uint256(bid)),
                        day,
                        i < 3 ? 0 : 1,
                        address(this),
                        address(0)
                    )
                )
            );
            vm.expectEmit(address(storages));
            emit IStorageWords.Missed(bid, day, i, 0, address(this));
            storages.reportMissedBundle(w.id, day, _noBits());
        }
        assertEq(uint8(storages.commitment(bid).status), uint8(IStorageWords.Status.Active));
        assertEq(storages.activeCommitments(w.id), 1);
        vm.expectRevert(_err(IStorageWords.NotDue.selector, _bundleId(7), DAY0 + 4));
        storages.reportMissedBundle(7, DAY0 + 4, _noBits());
    }

    /* REPAIR */

    function _faulty() private {
        _one();
        uint24 day = _today() + 1;
        for (uint24 i; i < 3; ++i) {
            _miss(day + i);
        }
        nodes.snapshotCoordinators();
    }

    function test_repair_movesTheObject() public {
        _faulty();
        Party memory to = workers[1];
        bytes32 digest = storages.repairDigest(id, to.id);
        bytes memory nodeSig = _sign(to.key, digest);
        bytes memory sigs = _quorumSigs(digest, 3);
        vm.recordLogs();
        uint128 newId = storages.repair(id, terms, to.id, nodeSig, sigs);
        assertEq(newId >> 96, to.id);
        assertEq(uint8(storages.commitment(id).status), uint8(IStorageWords.Status.Repaired));
        (terms.nodeId, terms.sinceDay) = (to.id, _today() + 1);
        assertEq(storages.commitment(newId).termsHash, keccak256(abi.encode(terms)));
        assertEq(payments.pair(payer, ALEPH, Payees.ofStorage(to.id)).rateQ32, RENT);
        assertEq(storages.activeCommitments(to.id), 1);
        assertEq(storages.activeCommitments(workers[0].id), 0);
        _warpDay(_today() + 1);
        _publish();
        _prove(newId, terms, object, _today());
    }

    function test_repair_refuses() public {
        _faulty();
        Party memory to = workers[1];
        bytes32 digest = storages.repairDigest(id, to.id);
        bytes memory nodeSig = _sign(to.key, digest);
        bytes memory sigs = _quorumSigs(digest, 2);
        INodeRegistry.Quorum memory q = nodes.quorum(digest, sigs);
        vm.expectRevert(_err(IStorageWords.QuorumLow.selector, q.weight, q.total));
        storages.repair(id, terms, to.id, nodeSig, sigs);
        vm.expectRevert(_err(AlephErrors.BadSignature.selector, 0));
        storages.repair(id, terms, workers[2].id, nodeSig, sigs);
        sigs = _quorumSigs(digest, 3);
        uint256 before = vm.snapshotState();
        _warpDay(terms.untilDay - 1);
        vm.expectRevert(_err(IStorageWords.NotDue.selector, id, terms.untilDay - 1));
        storages.repair(id, terms, to.id, nodeSig, sigs);
        vm.revertToState(before);
        storages.repair(id, terms, to.id, nodeSig, sigs);
        vm.expectRevert(_bad(IStorageWords.Status.Repaired, IStorageWords.Status.Faulty));
        storages.repair(id, terms, to.id, nodeSig, sigs);
        terms.k = 9;
        vm.expectRevert(_err(IStorageWords.WrongTerms.selector, id));
        storages.repair(id, terms, to.id, nodeSig, sigs);
    }

    /* CHALLENGES */

    uint256 private constant _BOND = 200 ether;

    function _challenger() private returns (address who) {
        who = makeAddr("challenger");
        gateway.mint(token, who, 1000 ether);
        vm.prank(who);
        token.approve(address(storages), type(uint256).max);
    }

    function _opened(bytes32 cid, IStorageWords.ChallengeKind kind, IStorageWords.ChallengeState state) private view {
        IStorageWords.ChallengeView memory c = storages.challengeOf(cid);
        assertEq(uint8(c.kind), uint8(kind));
        assertEq(uint8(c.state), uint8(state));
        assertEq(c.bond, _BOND);
        assertEq(c.openedAt, block.timestamp);
        assertEq(c.deadline, block.timestamp + 1 days);
        assertEq(token.balanceOf(address(storages)), _BOND);
    }

    function _arm(bytes32 cid) private returns (bytes32 seed) {
        seed = _seed(uint256(cid));
        _mockBeacon(9, seed);
        skip(60);
        vm.expectEmit(address(storages));
        emit IStorageWords.ChallengeArmed(cid, 9, seed, uint40(block.timestamp) + 1 days);
        storages.armChallenge(cid, [uint256(1), 2]);
    }

    function test_armChallenge_inTheLastSecond() public {
        _due();
        address who = _challenger();
        vm.prank(who);
        bytes32 cid = storages.challenge(id, terms);
        skip(1 days - 60);
        _arm(cid);
        assertEq(uint8(storages.challengeOf(cid).state), uint8(IStorageWords.ChallengeState.Armed));
    }

    function test_challenge_isAnswered() public {
        _due();
        address who = _challenger();
        vm.prank(who);
        bytes32 cid = storages.challenge(id, terms);
        _opened(cid, IStorageWords.ChallengeKind.Object, IStorageWords.ChallengeState.Open);
        vm.expectRevert(_bad(IStorageWords.ChallengeState.Open, IStorageWords.ChallengeState.Armed));
        storages.respond(cid, terms, "");
        uint256 opened = block.timestamp;
        vm.expectCall(_at("DrandVerifier"), abi.encodeCall(IDrandVerifier.verifyAt, (opened + 1, [uint256(1), 2])));
        bytes32 seed = _arm(cid);
        vm.expectRevert(_bad(IStorageWords.ChallengeState.Armed, IStorageWords.ChallengeState.Open));
        storages.armChallenge(cid, [uint256(1), 2]);
        bytes memory proofs = Asp1.prove(object, seed, id, 10);
        vm.expectRevert(_err(StorageProof.BadLength.selector, 352, 3520));
        storages.respond(cid, terms, new bytes(352));
        vm.expectRevert(abi.encodeWithSelector(IStorageWords.WrongKind.selector, 1, 2));
        storages.respondBundle(cid, 1, proofs);
        terms.k = 20;
        vm.expectRevert(_err(IStorageWords.WrongTarget.selector, uint256(cid)));
        storages.respond(cid, terms, proofs);
        terms.k = 2;
        vm.expectEmit(address(storages));
        emit IStorageWords.ChallengeAnswered(cid, workers[0].owner);
        storages.respond(cid, terms, proofs);
        assertEq(token.balanceOf(workers[0].owner), _BOND, "the node's");
        assertEq(token.balanceOf(address(storages)), 0);
        vm.expectRevert(_bad(IStorageWords.ChallengeState.Answered, IStorageWords.ChallengeState.Armed));
        storages.respond(cid, terms, proofs);
        vm.expectRevert(_bad(IStorageWords.ChallengeState.Answered, IStorageWords.ChallengeState.Armed));
        storages.expireChallenge(cid);
    }

    function test_challenge_isLost() public {
        uint24 day = _due();
        address who = _challenger();
        vm.prank(who);
        bytes32 cid = storages.challenge(id, terms);
        uint256 opened = block.timestamp;
        _arm(cid);
        uint256 until = block.timestamp + 1 days;
        vm.warp(until);
        vm.expectRevert(_err(AlephErrors.TooSoon.selector, until));
        storages.expireChallenge(cid);
        _mockOutage(100);
        vm.warp(until + 100);
        vm.expectCall(slaAt, abi.encodeCall(ISLAManager.outage, (uint40(opened), uint40(block.timestamp))));
        vm.expectRevert(_err(AlephErrors.TooSoon.selector, until + 100));
        storages.expireChallenge(cid);
        vm.warp(until + 101);
        vm.expectCall(
            slaAt,
            abi.encodeCall(
                ISLAManager.recordViolation,
                (ISLAManager.Kind.StorageChallengeLost, workers[0].id, cid, day + 1, 2, who, payer)
            )
        );
        vm.expectEmit(address(storages));
        emit IStorageWords.ChallengeExpired(cid, IStorageWords.ChallengeState.Lost);
        vm.expectEmit(address(storages));
        emit IStorageWords.StatusChanged(id, IStorageWords.Status.Faulty, day + 1);
        storages.expireChallenge(cid);
        assertEq(token.balanceOf(who), 1000 ether, "the bond is back");
        assertEq(storages.activeCommitments(workers[0].id), 0);
        vm.expectRevert(_bad(IStorageWords.ChallengeState.Lost, IStorageWords.ChallengeState.Armed));
        storages.expireChallenge(cid);
        // The rent still flows: anyone who may stops it, once.
        vm.prank(payer);
        storages.release(id, terms);
        assertEq(payments.pair(payer, ALEPH, Payees.ofStorage(workers[0].id)).rateQ32, 0);
        assertEq(uint8(storages.commitment(id).status), uint8(IStorageWords.Status.Faulty));
        vm.expectRevert(_bad(IStorageWords.Status.Faulty, IStorageWords.Status.Active));
        vm.prank(payer);
        storages.release(id, terms);
        vm.expectRevert(_bad(IStorageWords.Status.Faulty, IStorageWords.Status.Active));
        storages.challenge(id, terms);
    }

    function test_challenge_isVoidWithoutRandomness() public {
        _due();
        address who = _challenger();
        vm.prank(who);
        bytes32 cid = storages.challenge(id, terms);
        uint256 until = block.timestamp + 1 days;
        vm.warp(until);
        vm.expectRevert(_err(AlephErrors.TooSoon.selector, until));
        storages.expireChallenge(cid);
        vm.warp(until + 1);
        vm.expectRevert(_err(AlephErrors.TooLate.selector, until));
        storages.armChallenge(cid, [uint256(1), 2]);
        vm.expectEmit(address(storages));
        emit IStorageWords.ChallengeExpired(cid, IStorageWords.ChallengeState.Void);
        storages.expireChallenge(cid);
        assertEq(token.balanceOf(who), 1000 ether);
        assertEq(uint8(storages.commitment(id).status), uint8(IStorageWords.Status.Active));
    }

    function test_challenge_refuses() public {
        _one();
        address who = _challenger();
        vm.startPrank(who);
        vm.expectRevert(_err(IStorageWords.NotDue.selector, id, DAY0));
        storages.challenge(id, terms);
        _warpDay(DAY0 + 1);
        bytes32 cid = storages.challenge(id, terms);
        vm.expectRevert(_err(AlephErrors.Duplicate.selector, uint256(cid)));
        storages.challenge(id, terms);
        _warpDay(terms.untilDay);
        vm.expectRevert(_err(IStorageWords.NotDue.selector, id, terms.untilDay));
        storages.challenge(id, terms);
        terms.k = 1;
        vm.expectRevert(_err(IStorageWords.WrongTerms.selector, id));
        storages.challenge(id, terms);
        vm.expectRevert(_bad(IStorageWords.ChallengeState.None, IStorageWords.ChallengeState.Open));
        storages.armChallenge("none", [uint256(1), 2]);
        vm.expectRevert(_bad(IStorageWords.ChallengeState.None, IStorageWords.ChallengeState.Armed));
        storages.expireChallenge("none");
        vm.stopPrank();
    }

    /// @dev A node cannot get away from a challenge by another root.
    function test_challengeBundle_bindsTheRootOfTheDay() public {
        Party memory w = workers[0];
        bytes[] memory objects = _objects(1, 4);
        _openBundle(w, objects);
        vm.expectRevert(_err(IStorageWords.NotDue.selector, _bundleId(w.id), DAY0));
        storages.challengeBundle(w.id);
        vm.expectRevert(_err(IStorageWords.NoBundle.selector, workers[1].id));
        storages.challengeBundle(workers[1].id);
        _warpDay(DAY0 + 1);
        address who = _challenger();
        vm.prank(who);
        bytes32 cid = storages.challengeBundle(w.id);
        _opened(cid, IStorageWords.ChallengeKind.Bundle, IStorageWords.ChallengeState.Open);
        (bytes32 root, uint64 total) = Asp1.bundle(_objects(7, 4));
        vm.prank(w.signer);
        storages.updateBundle(w.id, root, total);
        bytes32 seed = _arm(cid);
        _warpDay(DAY0 + 2);
        bytes memory proofs = Asp1.proveBundle(_objects(7, 4), seed, _bundleId(w.id), 10);
        vm.expectRevert(_err(StorageProof.BadProof.selector, 0));
        storages.respondBundle(cid, total, proofs);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        storages.respondBundle(cid, 0, proofs);
        (, total) = Asp1.bundle(objects);
        proofs = Asp1.proveBundle(objects, seed, _bundleId(w.id), 10);
        storages.respondBundle(cid, total, proofs);
        assertEq(token.balanceOf(w.owner), _BOND);
    }

    function test_challengeObject_isAnsweredInTheBundle() public {
        Party memory w = workers[0];
        bytes[] memory objects = _objects(1, 5);
        _openBundle(w, objects);
        IStorageWords.StorageReceipt memory r = _receipt(w.id, objects[2]);
        bytes memory sig = _sign(w.key, storages.receiptDigest(r));
        _warpDay(DAY0 + 1);
        address who = _challenger();
        vm.prank(who);
        bytes32 cid = storages.challengeObject(r, sig);
        _opened(cid, IStorageWords.ChallengeKind.Receipt, IStorageWords.ChallengeState.Open);
        bytes32 seed = _arm(cid);
        (, uint64 total) = Asp1.bundle(objects);
        bytes memory path = Asp1.path(objects, 2);
        bytes memory proofs = Asp1.prove(objects[2], seed, _bundleId(w.id), 10);
        vm.expectRevert(_err(IStorageWords.WrongTarget.selector, uint256(cid)));
        this.respondOther(cid, r, total, objects, proofs);
        vm.expectRevert(abi.encodeWithSelector(IStorageWords.WrongKind.selector, 3, 4));
        storages.answerInclusion(cid, r, total, path);
        proofs[0] ^= 0x01;
        vm.expectRevert(_err(StorageProof.BadProof.selector, 0));
        storages.respondObject(cid, r, total, path, proofs);
        proofs[0] ^= 0x01;
        storages.respondObject(cid, r, total, path, proofs);
        assertEq(token.balanceOf(w.owner), _BOND);
    }

    /// @dev The path of another bundle that has the object, too.
    function respondOther(
        bytes32 cid,
        IStorageWords.StorageReceipt memory r,
        uint64,
        bytes[] memory objects,
        bytes memory proofs
    ) external {
        objects[0] = "another";
        (, uint64 total) = Asp1.bundle(objects);
        storages.respondObject(cid, r, total, Asp1.path(objects, 2), proofs);
    }

    function test_demandInclusion_isAnsweredOrLost() public {
        Party memory w = workers[0];
        bytes[] memory objects = _objects(1, 5);
        _openBundle(w, objects);
        IStorageWords.StorageReceipt memory r = _receipt(w.id, objects[4]);
        bytes memory sig = _sign(w.key, storages.receiptDigest(r));
        _warpDay(DAY0 + 1);
        address who = _challenger();
        vm.prank(who);
        bytes32 cid = storages.demandInclusion(r, sig);
        _opened(cid, IStorageWords.ChallengeKind.Inclusion, IStorageWords.ChallengeState.Armed);
        (, uint64 total) = Asp1.bundle(objects);
        bytes memory path = Asp1.path(objects, 3);
        vm.expectRevert(_err(StorageProof.BadProof.selector, 0));
        storages.answerInclusion(cid, r, total, path);
        path = Asp1.path(objects, 4);
        vm.expectEmit(address(storages));
        emit IStorageWords.ChallengeAnswered(cid, w.owner);
        storages.answerInclusion(cid, r, total, path);
        // An object that is not in the bundle has no answer.
        r.root = Asp1.root("lost");
        r.leaves = 1;
        sig = _sign(w.key, storages.receiptDigest(r));
        vm.prank(who);
        cid = storages.demandInclusion(r, sig);
        skip(1 days + 1);
        vm.expectCall(
            slaAt,
            abi.encodeCall(
                ISLAManager.recordViolation, (ISLAManager.Kind.InclusionDenied, w.id, cid, DAY0 + 2, 2, who, payer)
            )
        );
        storages.expireChallenge(cid);
        assertEq(uint8(storages.commitment(_bundleId(w.id)).status), uint8(IStorageWords.Status.Active));
    }

    function test_receipts_areChecked() public {
        Party memory w = workers[0];
        bytes[] memory objects = _objects(1, 2);
        _openBundle(w, objects);
        IStorageWords.StorageReceipt memory r = _receipt(w.id, objects[0]);
        bytes memory sig = _sign(w.key, storages.receiptDigest(r));
        vm.expectRevert(_err(IStorageWords.NotDue.selector, _bundleId(w.id), DAY0));
        storages.demandInclusion(r, sig);
        _warpDay(r.untilDay);
        vm.expectRevert(_err(IStorageWords.NotDue.selector, _bundleId(w.id), r.untilDay));
        storages.demandInclusion(r, sig);
        _warpDay(DAY0 + 1);
        vm.expectRevert(_err(AlephErrors.BadSignature.selector, 0));
        storages.demandInclusion(r, "");
        sig = _sign(workers[1].key, storages.receiptDigest(r));
        vm.expectRevert(_err(AlephErrors.BadSignature.selector, 0));
        storages.challengeObject(r, sig);
        r.leaves = 0;
        sig = _sign(w.key, storages.receiptDigest(r));
        vm.expectRevert(_bounds(0, 1, 1 << 40));
        storages.demandInclusion(r, sig);
        r.leaves = (1 << 40) + 1;
        sig = _sign(w.key, storages.receiptDigest(r));
        vm.expectRevert(_bounds((1 << 40) + 1, 1, 1 << 40));
        storages.demandInclusion(r, sig);
    }

    /// @dev A node does not get rid of its receipts by a new key.
    function test_receipts_ofAFormerKeyCount() public {
        Party memory w = workers[0];
        bytes[] memory objects = _objects(1, 2);
        _openBundle(w, objects);
        IStorageWords.StorageReceipt memory r = _receipt(w.id, objects[0]);
        bytes memory sig = _sign(w.key, storages.receiptDigest(r));
        (address next, uint256 key) = makeAddrAndKey("next key");
        bytes32 structHash = keccak256(abi.encode(keccak256("SetSigner(uint32 nodeId,address owner)"), w.id, w.owner));
        bytes memory consent = _sign(key, _digest("AlephNodes", address(nodes), structHash));
        vm.prank(w.owner);
        nodes.setSigner(w.id, next, consent);
        storages.enlist(w.id);
        assertEq(storages.store(w.id).signer, next);
        vm.expectRevert(_err(AlephErrors.NotAuthorized.selector, uint160(w.signer)));
        vm.prank(w.signer);
        storages.updateBundle(w.id, "root", 1);
        _warpDay(DAY0 + 1);
        vm.prank(_challenger());
        storages.demandInclusion(r, sig);
    }

    /* PARAMETERS AND VIEWS */

    function test_setParameters_withinBounds() public {
        vm.expectEmit(address(storages));
        emit IStorageWords.ParametersSet(256, 10_000, 10_000, 72);
        storages.setParameters(256, 10_000, 10_000, 72);
        (uint16 audit, uint16 stake, uint16 bond, uint16 hours_) = storages.parameters();
        assertEq(audit, 256);
        assertEq(stake, 10_000);
        assertEq(bond, 10_000);
        assertEq(hours_, 72);
        storages.setParameters(1, 0, 1, 6);
        vm.expectRevert(_bounds(0, 1, 256));
        storages.setParameters(0, 0, 1, 6);
        vm.expectRevert(_bounds(257, 1, 256));
        storages.setParameters(257, 0, 1, 6);
        vm.expectRevert(_bounds(10_001, 0, 10_000));
        storages.setParameters(1, 10_001, 1, 6);
        vm.expectRevert(_bounds(0, 1, 10_000));
        storages.setParameters(1, 0, 0, 6);
        vm.expectRevert(_bounds(10_001, 1, 10_000));
        storages.setParameters(1, 0, 10_001, 6);
        vm.expectRevert(_bounds(5, 6, 72));
        storages.setParameters(1, 0, 1, 5);
        vm.expectRevert(_bounds(73, 6, 72));
        storages.setParameters(1, 0, 1, 73);
        vm.expectRevert(_err(AlephErrors.NotAuthorized.selector, uint160(payer)));
        vm.prank(payer);
        storages.setParameters(1, 0, 1, 6);
    }

    function test_parameters_defaults() public view {
        (uint16 audit, uint16 stake, uint16 bond, uint16 hours_) = storages.parameters();
        assertEq(audit, 16);
        assertEq(stake, 50);
        assertEq(bond, 200);
        assertEq(hours_, 24);
    }

    function test_digests_areOfTheDomain() public view {
        bytes32 structHash =
            keccak256(abi.encode(keccak256("StoreExtension(uint128 id,uint24 untilDay)"), uint256(5), uint256(6)));
        assertEq(storages.extendDigest(5, 6), _digest("AlephStorage", address(storages), structHash));
        structHash = keccak256(abi.encode(keccak256("StoreRepair(uint128 id,uint32 nodeId)"), uint256(5), uint256(6)));
        assertEq(storages.repairDigest(5, 6), _digest("AlephStorage", address(storages), structHash));
        structHash = keccak256(
            abi.encode(
                keccak256("DayAttestation(uint24 day,bytes32 seed,bytes32 bitmapRoot)"),
                uint256(5),
                bytes32(0),
                bytes32("r")
            )
        );
        assertEq(storages.attestationDigest(5, "r"), _digest("AlephStorage", address(storages), structHash));
        IStorageWords.StorageReceipt memory r = _receipt(5, "x");
        structHash = keccak256(
            abi.encode(
                keccak256(
                    "StorageReceipt(uint32 nodeId,bytes32 root,uint64 leaves,uint24 sinceDay,uint24 untilDay,address holder)"
                ),
                r
            )
        );
        assertEq(storages.receiptDigest(r), _digest("AlephStorage", address(storages), structHash));
    }

    /// @dev What Go computes of the same words.
    function test_vectors_wordsAreGos() public {
        string memory json = vm.readFile("../protocol/testdata/vectors/asp1.json");
        bytes32 root = keccak256("root");
        address by = 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266;
        IStorageWords.Request memory r =
            IStorageWords.Request(5, root, 1000, keccak256("item"), 20_300, 5, 1, 1 << 40, 1_750_000_600);
        assertEq(storages.commitDigest(by, r), _goDigest(json, "request"));
        id = uint128(bytes16(vm.parseJsonBytes(json, ".words.request_id")));
        bytes32 hash = vm.parseJsonBytes32(json, ".words.request");
        assertEq(id, uint128(5) << 96 | uint96(uint256(hash)) | 1);
        terms = IStorageWords.Terms(5, root, 1000, 20_255, 20_300, 5, by, 1, 1 << 40);
        assertEq(keccak256(abi.encode(terms)), vm.parseJsonBytes32(json, ".words.terms"));
        IStorageWords.StorageReceipt memory receipt = IStorageWords.StorageReceipt(5, root, 9, 20_255, 20_300, by);
        assertEq(storages.receiptDigest(receipt), _goDigest(json, "receipt"));
        assertEq(storages.extendDigest(id, 20_400), _goDigest(json, "extension"));
        assertEq(storages.repairDigest(id, 6), _goDigest(json, "repair"));
        _warpDay(20_255);
        _mockBeacon(1, keccak256("words"));
        storages.publishBeacon(20_255, [uint256(1), 2]);
        assertEq(storages.attestationDigest(20_255, keccak256("bitmap")), _goDigest(json, "attestation"));
        uint256[] memory sampled = vm.parseJsonUintArray(json, ".words.sampled");
        uint256 n;
        for (uint32 node = 1; node <= 100; ++node) {
            if (storages.isSampled(node, 20_255)) assertEq(sampled[n++], node);
        }
        assertEq(n, sampled.length);
    }

    function _goDigest(string memory json, string memory name) private view returns (bytes32) {
        bytes32 structHash = vm.parseJsonBytes32(json, string.concat(".words.", name));
        return _digest("AlephStorage", address(storages), structHash);
    }

    /// @dev The extension alone has no storage that counts.
    function test_extension_isNothingByItself() public {
        _one();
        IStorageRegistry alone = IStorageRegistry(Extensible(address(storages)).extension());
        vm.expectRevert(_err(IStorageWords.WrongTerms.selector, id));
        alone.challenge(id, terms);
        vm.expectRevert(_err(IStorageWords.NotEnlisted.selector, 77));
        alone.commitBundle(77, "root", 1, 1);
        vm.expectRevert(_bad(IStorageWords.ChallengeState.None, IStorageWords.ChallengeState.Open));
        alone.armChallenge(0, [uint256(1), 2]);
    }

    function test_isSampled_needsRandomness() public {
        assertFalse(storages.isSampled(1, DAY0 + 1));
        storages.setParameters(1, 0, 1, 6);
        assertFalse(storages.isSampled(1, DAY0 + 1));
        _warpDay(DAY0 + 1);
        _publish();
        assertTrue(storages.isSampled(1, DAY0 + 1));
    }

    function test_exit_needsEveryCommitmentEnded() public {
        _one();
        Party memory w = workers[0];
        vm.prank(w.owner);
        nodes.drain(w.id);
        vm.prank(w.owner);
        vm.expectRevert();
        nodes.exit(w.id);
        vm.prank(payer);
        storages.release(id, terms);
        vm.prank(w.owner);
        nodes.exit(w.id);
    }
}
