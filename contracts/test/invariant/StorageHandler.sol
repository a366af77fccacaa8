// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStorageWords} from "../../src/interfaces/IStorageWords.sol";
import {StorageProof} from "../../src/libraries/StorageProof.sol";
import {Asp1} from "../utils/Asp1.sol";
import {StorageSuite} from "../utils/StorageSuite.sol";

/// @title StorageHandler
/// @notice Payers, nodes, coordinators, challengers and bystanders that do anything in any order through the
/// StorageRegistry, with books of their own. Each action knows whether it must succeed.
contract StorageHandler is StorageSuite {
    /// @dev A commitment in the books. Bundles have no terms and no object.
    struct Book {
        uint128 id;
        uint256 worker;
        bool bundle;
        bool ended;
        bool lost;
        uint24 sinceDay;
        uint24 endDay;
        bytes object;
        IStorageWords.Terms terms;
    }

    struct Dispute {
        bytes32 id;
        uint256 book;
        IStorageWords.ChallengeState state;
        bytes[] objects;
    }

    Book[] internal books;
    Dispute[] internal disputes;
    mapping(uint128 id => mapping(uint24 day => bool)) public provenOn;
    mapping(uint128 id => mapping(uint24 day => bool)) public missedOn;
    mapping(uint24 day => bytes32) public seeds;
    mapping(uint24 day => bytes) internal bitmaps;
    /// @dev What a bundle must be on a day, and the objects in it.
    mapping(uint256 worker => mapping(uint24 day => bytes30)) internal due;
    mapping(bytes30 binding => bytes[]) internal contents;
    mapping(uint256 worker => bytes30) internal latest;
    uint256 internal outage;
    uint256 internal salt;
    uint256 public steps;
    uint24 public firstDay;

    /// @dev Not a test: the invariant test deploys this and calls {start}.
    function setUp() public override {}

    function start() external {
        super.setUp();
        firstDay = _today();
        gateway.mint(token, address(this), 1e30);
        token.approve(address(storages), type(uint256).max);
        nodes.snapshotCoordinators();
        for (uint256 i; i < workers.length; ++i) {
            storages.enlist(workers[i].id);
        }
    }

    modifier step() {
        ++steps;
        _;
    }

    /* COMMITMENTS */

    function commit(uint256 who, uint256 size, uint256 days_, uint256 rent) external step {
        if (books.length >= 24) return;
        books.push();
        Book storage b = books[books.length - 1];
        b.worker = who % workers.length;
        b.object = _object(++salt, 1 + size % 700);
        IStorageWords.Request memory r = _request(b.object, workers[b.worker].id, rent % 2 == 0 ? 0 : RENT / 1000);
        r.untilDay = _today() + uint24(bound(days_, 2, 20));
        r.k = uint8(1 + size % 3);
        b.terms = _termsOf(r, payer);
        (b.sinceDay, b.endDay) = (_today() + 1, r.untilDay);
        bytes memory sig = _requestSig(r, payer, workers[b.worker].key);
        vm.prank(payer);
        b.id = storages.commit(r, sig);
    }

    function release(uint256 which, bool byPayer) external step {
        Book storage b = _pick(which);
        if (b.bundle) return;
        bool allowed = byPayer || _today() >= b.terms.untilDay;
        if (byPayer) vm.prank(payer);
        try storages.release(b.id, b.terms) {
            require(allowed, "released by a stranger");
            require(!b.ended || b.lost, "released twice");
            if (!b.ended) _end(b, _today() < b.terms.untilDay ? _today() : b.terms.untilDay);
            b.lost = false;
        } catch {
            require(!allowed || (b.ended && !b.lost), "not released");
        }
    }

    /// @dev Opens a bundle, or gives an open one other objects.
    function bundle(uint256 who, uint256 n) external step {
        uint256 w = who % workers.length;
        bytes[] memory objects = _objects(salt += 7, 1 + n % 3);
        (bytes32 root, uint64 total) = Asp1.bundle(objects);
        uint24 today = _today();
        bytes30 before = storages.bundleOn(workers[w].id, today);
        if (storages.store(workers[w].id).capacity == 0) {
            if (books.length >= 24) return;
            _openBundle(workers[w], objects);
            books.push();
            Book storage b = books[books.length - 1];
            (b.id, b.worker, b.bundle, b.sinceDay) = (_bundleId(workers[w].id), w, true, today + 1);
            b.endDay = type(uint24).max;
        } else {
            vm.prank(workers[w].signer);
            storages.updateBundle(workers[w].id, root, total);
        }
        require(storages.bundleOn(workers[w].id, today) == before, "SR-4: today's root changed");
        bytes30 binding = StorageProof.bind(root, total);
        latest[w] = binding;
        due[w][today + 1] = binding;
        _keep(binding, objects);
    }

    /* DAYS */

    function publish() external step {
        uint24 today = _today();
        _mockBeacon(today, _seed(today));
        try storages.publishBeacon(today, [uint256(1), 2]) {
            require(seeds[today] == 0, "SR-3: published twice");
            seeds[today] = _seed(today);
        } catch {
            require(seeds[today] != 0, "SR-3: not published");
        }
    }

    function prove(uint256 which, uint256 back, uint256 flip) external step {
        Book storage b = _pick(which);
        uint24 day = _dayBack(back);
        bytes memory proofs = _proofs(b, day);
        // One in four proofs is not right.
        bool right = flip % 4 != 0 || proofs.length == 0;
        if (!right) proofs[flip % proofs.length] ^= 0x01;
        // An old root that has made room cannot be proven by anyone.
        bool may = right && proofs.length != 0 && _provable(b, day);
        if (b.bundle) may = may && storages.bundleOn(workers[b.worker].id, day) == due[b.worker][day];
        bool ok = _tryProve(b, day, proofs);
        require(ok == may, may ? "SR-1: a right proof was refused" : "SR-1: a wrong proof was accepted");
        if (ok) provenOn[b.id][day] = true;
    }

    function attest(uint256 mask, uint256 back) external step {
        uint24 day = _dayBack(back % 3);
        uint32[] memory ids = new uint32[](workers.length);
        for (uint256 i; i < ids.length; ++i) {
            ids[i] = (mask >> i) & 1 == 1 ? workers[i].id : 0;
        }
        bytes memory bitmap = _bitmap(1, ids);
        nodes.snapshotCoordinators();
        bytes memory sigs = _quorumSigs(storages.attestationDigest(day, storages.bitmapRoot(bitmap)), 3);
        bool may = seeds[day] != 0 && bitmaps[day].length == 0 && !_late(day);
        try storages.attestDay(day, bitmap, sigs) {
            require(may, "attested too late or twice");
            bitmaps[day] = bitmap;
        } catch {
            require(!may, "not attested");
        }
    }

    function report(uint256 which, uint256 back) external step {
        Book storage b = _pick(which);
        uint24 day = _dayBack(back);
        IStorageWords.BitmapPart memory bits = _part(day);
        bool may = _provable(b, day) && _late(day) && !excused(b.id, day);
        bool ok;
        if (b.bundle) {
            try storages.reportMissedBundle(workers[b.worker].id, day, bits) {
                ok = true;
            } catch {}
        } else {
            try storages.reportMissed(b.id, b.terms, day, bits) {
                ok = true;
            } catch {}
        }
        require(ok == may, may ? "SR-9: a report was refused" : "SR-9: a report was accepted");
        if (!ok) return;
        missedOn[b.id][day] = true;
        if (!b.bundle && !b.ended && _worst(b.id, day) >= 3) _end(b, _today());
    }

    /* CHALLENGES */

    function challenge(uint256 which) external step {
        if (disputes.length >= 12) return;
        Book storage b = _pick(which);
        uint24 today = _today();
        bool may = !b.ended && today >= b.sinceDay && today < b.endDay;
        bytes32 cid;
        if (b.bundle) {
            try storages.challengeBundle(workers[b.worker].id) returns (bytes32 made) {
                cid = made;
            } catch {}
        } else {
            try storages.challenge(b.id, b.terms) returns (bytes32 made) {
                cid = made;
            } catch {}
        }
        // A second one at the same time is refused.
        if (cid == 0) {
            require(!may || _twice(which), "not challenged");
            return;
        }
        require(may, "challenged what is not stored");
        disputes.push();
        Dispute storage d = disputes[disputes.length - 1];
        (d.id, d.book, d.state) = (cid, _index(which), IStorageWords.ChallengeState.Open);
        if (b.bundle) _copy(d.objects, contents[storages.bundleOn(workers[b.worker].id, today)]);
    }

    function arm(uint256 which) external step {
        if (disputes.length == 0) return;
        Dispute storage d = disputes[which % disputes.length];
        IStorageWords.ChallengeView memory c = storages.challengeOf(d.id);
        bool may = d.state == IStorageWords.ChallengeState.Open && block.timestamp <= uint256(c.openedAt) + 1 days;
        _mockBeacon(9, keccak256(abi.encode(d.id)));
        try storages.armChallenge(d.id, [uint256(1), 2]) {
            require(may, "armed");
            d.state = IStorageWords.ChallengeState.Armed;
        } catch {
            require(!may, "not armed");
        }
    }

    function respond(uint256 which, bool wrong) external step {
        if (disputes.length == 0) return;
        Dispute storage d = disputes[which % disputes.length];
        Book storage b = books[d.book];
        bytes32 seed = keccak256(abi.encode(d.id));
        bytes memory proofs =
            b.bundle ? Asp1.proveBundle(d.objects, seed, b.id, 10) : Asp1.prove(b.object, seed, b.id, 10);
        if (wrong) proofs[proofs.length / 2] ^= 0x01;
        bool may = !wrong && d.state == IStorageWords.ChallengeState.Armed;
        bool ok;
        if (b.bundle) {
            (, uint64 total) = Asp1.bundle(d.objects);
            try storages.respondBundle(d.id, total, proofs) {
                ok = true;
            } catch {}
        } else {
            try storages.respond(d.id, b.terms, proofs) {
                ok = true;
            } catch {}
        }
        require(ok == may, "answer");
        if (ok) d.state = IStorageWords.ChallengeState.Answered;
    }

    function expire(uint256 which) external step {
        if (disputes.length == 0) return;
        Dispute storage d = disputes[which % disputes.length];
        Book storage b = books[d.book];
        IStorageWords.ChallengeView memory c = storages.challengeOf(d.id);
        bool armed = d.state == IStorageWords.ChallengeState.Armed;
        bool may = (armed || d.state == IStorageWords.ChallengeState.Open)
            && block.timestamp > uint256(c.deadline) + (armed ? outage : 0);
        try storages.expireChallenge(d.id) {
            require(may, "expired");
            d.state = armed ? IStorageWords.ChallengeState.Lost : IStorageWords.ChallengeState.Void;
            // The rent flows until somebody releases what is lost.
            if (armed && !b.bundle && !b.ended) (b.lost, b.ended, b.endDay) = (true, true, _endDay(b));
        } catch {
            require(!may, "not expired");
        }
    }

    /* TIME */

    /// @dev Mostly to a second around what decides something: midnight, the end of a day's grace, a deadline.
    function warp(uint256 how, uint256 time) external step {
        if (_today() > firstDay + 60) return;
        uint256 midnight = (uint256(_today()) + 1) * 1 days;
        uint256 to = block.timestamp + bound(time, 1, 8 hours);
        if (how % 4 == 0) to = midnight + time % 3;
        if (how % 4 == 1) to = midnight + 6 hours + outage + time % 3;
        if (how % 4 == 2) to = midnight + 1 hours;
        vm.warp(to > block.timestamp ? to : block.timestamp + 1);
        for (uint256 w; w < workers.length; ++w) {
            // What was due stays due until something else is.
            for (uint24 day = firstDay + 1; day <= _today() + 1; ++day) {
                if (due[w][day] == 0) due[w][day] = due[w][day - 1];
            }
        }
    }

    function sequencer(uint256 time) external step {
        // An outage that was known is not forgotten.
        uint256 next = time % 4 == 0 ? bound(time, 0, 48 hours) : 0;
        if (next < outage) return;
        outage = next;
        _mockOutage(uint32(outage));
    }

    /* VIEWS */

    function count() external view returns (uint256) {
        return books.length;
    }

    function book(uint256 i) external view returns (Book memory) {
        return books[i];
    }

    /// @dev What the books say of a commitment's last 32 days, as bits from the newest day that the contract knows.
    function bits(uint128 id, uint24 newest, bool proven) external view returns (uint32 out) {
        for (uint24 age; age < 32 && age <= newest; ++age) {
            if (proven ? provenOn[id][newest - age] : missedOn[id][newest - age]) out |= uint32(1) << age;
        }
    }

    function idOf(uint256 i) external view returns (uint128) {
        return books[i].id;
    }

    /// @dev What of the books counts for a worker: how many are active, and their rent.
    function account(uint256 w) external view returns (uint256 active, uint256 rate) {
        for (uint256 i; i < books.length; ++i) {
            Book storage b = books[i];
            if (b.worker != w) continue;
            if (!b.ended) ++active;
            if (!b.bundle && (!b.ended || b.lost)) rate += b.terms.rateQ32;
        }
    }

    function ended(uint256 i) external view returns (bool) {
        return books[i].ended;
    }

    function nodeOf(uint256 w) external view returns (uint32) {
        return workers[w].id;
    }

    function dueOn(uint256 w, uint24 day) external view returns (bytes30) {
        return due[w][day];
    }

    function openBonds() external view returns (uint256 sum) {
        for (uint256 i; i < disputes.length; ++i) {
            IStorageWords.ChallengeState s = disputes[i].state;
            if (s == IStorageWords.ChallengeState.Open || s == IStorageWords.ChallengeState.Armed) sum += 200 ether;
        }
    }

    function disputeCount() external view returns (uint256) {
        return disputes.length;
    }

    function dispute(uint256 i) external view returns (bytes32, IStorageWords.ChallengeState) {
        return (disputes[i].id, disputes[i].state);
    }

    /// @dev Whether coordinators have attested the node, and it is not in the sample.
    function excused(uint128 id, uint24 day) public view returns (bool) {
        uint32 nodeId = uint32(id >> 96);
        if (bitmaps[day].length == 0 || uint256(keccak256(abi.encode(seeds[day], nodeId))) % 16 == 0) return false;
        return (uint8(bitmaps[day][31 - nodeId / 8]) >> (nodeId % 8)) & 1 == 1;
    }

    function contracts() external view returns (address, address, address, address) {
        return (address(token), address(storages), address(payments), payer);
    }

    /* INTERNAL */

    function _index(uint256 which) private view returns (uint256) {
        return which % books.length;
    }

    function _pick(uint256 which) private returns (Book storage b) {
        if (books.length == 0) this.commit(which, which, which, which);
        return books[_index(which)];
    }

    function _dayBack(uint256 back) private view returns (uint24) {
        return _today() - uint24(back % 10);
    }

    function _endDay(Book storage b) private view returns (uint24) {
        return _today() < b.endDay ? _today() : b.endDay;
    }

    function _end(Book storage b, uint24 endDay) private {
        b.ended = true;
        if (endDay < b.endDay) b.endDay = endDay;
    }

    /// @dev Due, not too long ago, with randomness, and nothing known of it.
    function _provable(Book storage b, uint24 day) private view returns (bool) {
        return day >= b.sinceDay && day < b.endDay && seeds[day] != 0 && uint256(day) + 8 >= _today()
            && !provenOn[b.id][day] && !missedOn[b.id][day];
    }

    function _late(uint24 day) private view returns (bool) {
        return block.timestamp > uint256(day) * 1 days + 30 hours + outage;
    }

    /// @dev For a bundle: only yesterday's and today's roots are kept.
    function _proofs(Book storage b, uint24 day) private view returns (bytes memory) {
        if (seeds[day] == 0) return "";
        if (!b.bundle) return Asp1.prove(b.object, seeds[day], b.id, b.terms.k);
        bytes[] memory objects = contents[storages.bundleOn(workers[b.worker].id, day)];
        if (objects.length == 0) return "";
        return Asp1.proveBundle(objects, seeds[day], b.id, 5);
    }

    function _tryProve(Book storage b, uint24 day, bytes memory proofs) private returns (bool) {
        if (!b.bundle) {
            try storages.prove(b.id, b.terms, day, proofs) {
                return true;
            } catch {
                return false;
            }
        }
        bytes[] memory objects = contents[due[b.worker][day]];
        uint64 total = 1;
        if (objects.length != 0) (, total) = Asp1.bundle(objects);
        try storages.proveBundle(workers[b.worker].id, total, day, proofs) {
            return true;
        } catch {
            return false;
        }
    }

    function _part(uint24 day) private view returns (IStorageWords.BitmapPart memory bits) {
        if (bitmaps[day].length != 0) bits.part = abi.decode(bitmaps[day], (bytes32[8]));
    }

    function _worst(uint128 id, uint24 day) private view returns (uint256 worst) {
        for (uint24 from = day - 6; from <= day; ++from) {
            uint256 n;
            for (uint24 d = from; d < from + 7; ++d) {
                if (missedOn[id][d]) ++n;
            }
            if (n > worst) worst = n;
        }
    }

    function _twice(uint256 which) private view returns (bool) {
        for (uint256 i; i < disputes.length; ++i) {
            if (disputes[i].book == _index(which) && storages.challengeOf(disputes[i].id).openedAt == block.timestamp) {
                return true;
            }
        }
        return false;
    }

    function _keep(bytes30 binding, bytes[] memory objects) private {
        delete contents[binding];
        for (uint256 i; i < objects.length; ++i) {
            contents[binding].push(objects[i]);
        }
    }

    function _copy(bytes[] storage to, bytes[] storage from) private {
        for (uint256 i; i < from.length; ++i) {
            to.push(from[i]);
        }
    }
}
