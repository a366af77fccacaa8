// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {Bitmaps} from "../utils/Bitmaps.sol";
import {HeartbeatSuite} from "../utils/HeartbeatSuite.sol";
import {Suite} from "../utils/Suite.sol";

/// @title NodeHandler
/// @notice Owners, nodes, coordinators, the SLAManager and bystanders that do anything in any order through the
/// NodeRegistry, with books of their own.
contract NodeHandler is HeartbeatSuite {
    struct Said {
        bytes32 root;
        bytes bitmap;
    }

    uint256 internal constant MAX_NODES = 20;
    uint256 internal constant FEE = 0.0002 ether;

    uint256 public steps;
    // What the coordinators said, and when.
    uint32[] public epochs;
    mapping(uint32 epoch => Said) internal said;
    mapping(uint32 epoch => bytes32) public commitments;
    mapping(uint32 id => mapping(uint32 epoch => bool)) public self;
    // Nodes: what was seen last, and what happened to a coordinator since the snapshot of `day`.
    mapping(uint32 id => INodeRegistry.Status) public lastStatus;
    mapping(uint32 id => uint40) public activeFrom;
    mapping(uint32 id => bool) public left;
    mapping(uint32 id => bool) public offline;
    mapping(uint32 id => mapping(uint32 epoch => bool)) internal shown;
    uint24 public day;
    // Payouts: the last one, and when each address was last asked for.
    mapping(uint32 id => address) public lastPayout;
    mapping(uint32 id => mapping(address => uint256)) public askedAt;
    // Leaves.
    uint256 public open;
    uint256 public fees;
    uint256 public reports;
    uint256 public returns_;
    uint256 public posts;
    // The tree of an epoch is always the same.
    bytes32 internal root;

    /// @dev Not a test: the invariant test deploys this and calls {start}.
    function setUp() public override {}

    function start() external {
        Suite.setUp();
        for (uint256 i; i < allNodes(); ++i) {
            _seen(party(i));
        }
        vm.deal(address(this), 1000 ether);
        (root,) = _stats(31, 1, "");
    }

    receive() external payable {}

    modifier step() {
        ++steps;
        _;
        _note();
    }

    /* OWNERS */

    function join(uint256 which, bool coordinator) external step {
        if (allNodes() >= MAX_NODES) return;
        string memory name = string.concat("late", vm.toString(allNodes()));
        INodeRegistry.Kind kind = coordinator
            ? INodeRegistry.Kind.Coordinator
            : which % 2 == 0 ? INodeRegistry.Kind.Compute : INodeRegistry.Kind.Storage;
        Party memory p = _register(kind, name);
        if (coordinator) coordinators.push(p);
        else workers.push(p);
        _seen(p);
        _stake(p, (coordinator ? staking.totalRequirement() : staking.requirement(kind)) + uint128(which % 7) * 1e22);
    }

    function activate(uint256 which) external step {
        try nodes.activate(_pick(which).id) {} catch {}
    }

    function drain(uint256 which) external step {
        if (which % 3 != 0) return;
        Party memory p = _pick(which);
        vm.prank(p.owner);
        try nodes.drain(p.id) {} catch {}
    }

    function exit(uint256 which) external step {
        Party memory p = _pick(which);
        vm.prank(p.owner);
        try nodes.exit(p.id) {} catch {}
    }

    function rotate(uint256 which, uint256 seed) external step {
        uint256 i = which % allNodes();
        Party memory p = party(i);
        (address fresh, uint256 key) = makeAddrAndKey(vm.toString(seed % 40));
        bytes memory sig = _setSignerSig(key, p.id, p.owner);
        bool free = nodes.nodeOfSigner(fresh) == 0;
        vm.prank(p.owner);
        try nodes.setSigner(p.id, fresh, sig) {
            require(free, "NR-1: a key was taken from a node");
            Party storage s = i < coordinators.length ? coordinators[i] : workers[i - coordinators.length];
            (s.signer, s.key) = (fresh, key);
            left[p.id] = true;
        } catch {}
    }

    function starve(uint256 which) external step {
        uint32 id = _pick(which).id;
        if (_status(id) == INodeRegistry.Status.Active) _starve(id);
    }

    function setPayout(uint256 which, uint256 to) external step {
        Party memory p = _pick(which);
        address payout = address(uint160(0x1000 + to % 5));
        vm.prank(p.owner);
        try nodes.setPayout(p.id, payout) {
            askedAt[p.id][payout] = block.timestamp;
        } catch {}
    }

    function applyPayout(uint256 which) external step {
        try nodes.applyPayout(_pick(which).id) {} catch {}
    }

    function transfer(uint256 which, uint256 to) external step {
        Party memory p = _pick(which);
        address next = to % 4 == 0 ? address(0) : address(uint160(0x2000 + to % 3));
        vm.prank(p.owner);
        try nodes.transferNode(p.id, next) {
            askedAt[p.id][next] = block.timestamp;
        } catch {}
    }

    function accept(uint256 which) external step {
        uint256 i = which % allNodes();
        Party memory p = party(i);
        address next = nodes.node(p.id).pendingOwner;
        vm.prank(next);
        try nodes.acceptNode(p.id) {
            Party storage s = i < coordinators.length ? coordinators[i] : workers[i - coordinators.length];
            s.owner = next;
        } catch {}
    }

    function link(uint256 coord, uint256 which) external step {
        Party memory c = coordinators[coord % coordinators.length];
        vm.prank(c.owner);
        try nodes.link(c.id, _pick(which).id) {} catch {}
    }

    function unlink(uint256 which, bool byNode) external step {
        Party memory p = _pick(which);
        uint32 coordId = nodes.node(p.id).linkedTo;
        (address owner,,) = nodes.standing(coordId);
        vm.prank(byNode ? p.owner : owner);
        try nodes.unlink(coordId, p.id) {
            require(coordId != 0, "unlinked from nobody");
        } catch {
            require(coordId == 0, "a link cannot be ended");
        }
    }

    function lock(uint256 which, bool locked) external step {
        Party memory p = _pick(which);
        vm.prank(p.owner);
        try nodes.setLocked(p.id, locked) {} catch {}
    }

    /* THE SLAMANAGER */

    function jail(uint256 which, uint256 time) external step {
        vm.prank(slaAt);
        nodes.jail(_pick(which).id, uint32(bound(time, 1, time % 3 == 0 ? 365 days : 2 hours)));
    }

    function unjail(uint256 which) external step {
        uint32 id = _pick(which).id;
        uint40 until = nodes.node(id).jailedUntil;
        try nodes.unjail(id) {
            require(block.timestamp >= until, "out of jail too soon");
        } catch {}
    }

    function ban(uint256 which) external step {
        if (which % 5 != 0) return;
        vm.prank(slaAt);
        nodes.ban(_pick(which / 5).id);
    }

    /* HEARTBEATS */

    function snapshot() external step {
        try nodes.snapshotCoordinators() {} catch {}
    }

    /// @dev Some coordinators sign for some nodes, of an epoch that may be too old.
    function post(uint256 mask, uint256 alive, uint256 back) external step {
        _submit(_now() - uint32(back % 8), uint64(mask | mask >> 64), _bits(alive));
    }

    /// @dev Many epochs pass, and all coordinators sign for the same nodes.
    function epochsPass(uint256 count, uint256 alive) external step {
        count = bound(count, 1, 30);
        for (uint256 i; i < count; ++i) {
            uint32 epoch = _now();
            _toEpoch(epoch + 1);
            _submit(epoch, type(uint64).max, _bits(alive));
        }
    }

    function selfHeartbeat(uint256 which, uint256 back) external step {
        Party memory p = _pick(which);
        uint32 epoch = _now() - uint32(back % 3);
        vm.prank(p.signer);
        try nodes.selfHeartbeat(p.id, epoch) {
            require(back % 3 != 2 && !self[p.id][epoch], "a self heartbeat that is late or not the first");
            self[p.id][epoch] = true;
        } catch {}
    }

    function reportMissed(uint256 which) external step {
        _report(_pick(which).id);
    }

    /// @dev A node is away for a day, and somebody notices.
    function goesDark(uint256 which, uint256 count) external step {
        uint32 id = _pick(which).id;
        bytes memory bitmap = new bytes(4);
        for (uint256 i; i < 4; ++i) {
            bitmap[i] = 0xff;
        }
        bitmap[id / 8] ^= bytes1(uint8(1 << (id % 8)));
        _toEpoch(_now() + 1);
        count = bound(count, 23, 26);
        for (uint256 i; i < count; ++i) {
            uint32 epoch = _now();
            _toEpoch(epoch + 1);
            _submit(epoch, type(uint64).max, bitmap);
        }
        _report(id);
    }

    function reactivate(uint256 which) external step {
        _reactivate(_pick(which));
    }

    /// @dev All nodes are alive for three epochs, and one of them shows it.
    function comesBack(uint256 which) external step {
        _toEpoch(_now() + 1);
        for (uint256 i; i < 3; ++i) {
            uint32 epoch = _now();
            _toEpoch(epoch + 1);
            _submit(epoch, type(uint64).max, hex"ffffffff");
        }
        Party memory p = _pick(which);
        for (uint256 i; i < allNodes(); ++i) {
            if (offline[party(i).id] && lastStatus[party(i).id] == INodeRegistry.Status.Suspended) p = party(i);
        }
        _reactivate(p);
    }

    function equivocation(uint256 coord, uint256 back, bool same) external step {
        Party memory c = coordinators[coord % coordinators.length];
        uint32 epoch = _now() - uint32(back % 400);
        bytes memory a = _sign(c.key, nodes.heartbeatDigest(epoch, "a", "m"));
        bytes memory b = _sign(c.key, nodes.heartbeatDigest(epoch, same ? bytes32("a") : bytes32("b"), "m"));
        bool due = !same && back % 400 <= 14 * 24 && !shown[c.id][epoch];
        try nodes.equivocation(c.id, epoch, "a", "m", a, same ? bytes32("a") : bytes32("b"), "m", b) {
            require(due, "no equivocation, or one that was punished");
            shown[c.id][epoch] = true;
        } catch {
            // A key of an exited coordinator counts until it left.
            require(!due || _status(c.id) == INodeRegistry.Status.Exited, "an equivocation goes unpunished");
        }
    }

    /* LEAVES */

    function demand(uint256 which, uint256 back) external step {
        if (epochs.length == 0) return;
        uint32 epoch = epochs[epochs.length - 1 - back % (epochs.length < 60 ? epochs.length : 60)];
        Said memory s = said[epoch];
        uint32 id = _pick(which).id;
        try nodes.demandLeaf{value: FEE}(epoch, id, s.root, Bitmaps.pageOf(s.bitmap, id)) {
            ++open;
            fees += FEE;
        } catch {}
    }

    function answer(uint256 which, uint256 back) external step {
        if (epochs.length == 0) return;
        uint32 epoch = epochs[epochs.length - 1 - back % (epochs.length < 60 ? epochs.length : 60)];
        uint32 id = _pick(which).id;
        (, bytes32[] memory proof) = _stats(31, id, said[epoch].bitmap);
        try nodes.answerLeaf(epoch, id, _leaf(id), proof) {
            --open;
            fees -= FEE;
        } catch {}
    }

    function expire(uint256 which, uint256 back, uint256 coord) external step {
        if (epochs.length == 0) return;
        uint32 epoch = epochs[epochs.length - 1 - back % (epochs.length < 60 ? epochs.length : 60)];
        uint32 id = _pick(which).id;
        Party memory c = coordinators[coord % coordinators.length];
        Said memory s = said[epoch];
        bytes memory sig = _sign(c.key, nodes.heartbeatDigest(epoch, s.root, Bitmaps.hashOf(s.bitmap)));
        (, uint40 opened, INodeRegistry.DemandState state) = nodes.leafDemand(epoch, id);
        try nodes.expireLeaf(epoch, id, c.id, s.root, Bitmaps.hashOf(s.bitmap), sig) {
            require(block.timestamp >= opened + 1 days, "expired too soon");
            if (state == INodeRegistry.DemandState.Open) --open;
            if (state == INodeRegistry.DemandState.Open) fees -= FEE;
        } catch {}
    }

    /* TIME */

    function warp(uint256 time) external step {
        uint256 pick = time % 5;
        if (pick == 0) return skip(bound(time, 1, 3 hours));
        if (pick == 1) return skip(bound(time, 1, 3 days));
        // To the edge of an epoch, a day or a delay, or a second beside it.
        uint256 unit = pick == 2 ? 1 hours : 1 days;
        vm.warp((block.timestamp / unit + 1) * unit - 1 + time / 5 % 3);
    }

    /* VIEWS */

    function allNodes() public view returns (uint256) {
        return coordinators.length + workers.length;
    }

    function party(uint256 i) public view returns (Party memory) {
        return i < coordinators.length ? coordinators[i] : workers[i - coordinators.length];
    }

    function epochCount() external view returns (uint256) {
        return epochs.length;
    }

    function contracts() external view returns (address, address) {
        return (address(nodes), address(staking));
    }

    /* INTERNAL */

    function _pick(uint256 which) private view returns (Party memory) {
        return party(which % allNodes());
    }

    function _seen(Party memory p) private {
        lastStatus[p.id] = _status(p.id);
        activeFrom[p.id] = uint40(block.timestamp);
        lastPayout[p.id] = nodes.payoutOf(p.id);
    }

    function _isSet(bytes memory bitmap, uint32 id) private pure returns (bool) {
        return id / 8 < bitmap.length && uint8(bitmap[id / 8]) >> (id % 8) & 1 == 1;
    }

    /// @dev What the bits of `alive` say, for two bytes' or four bytes' worth of nodes.
    function _bits(uint256 alive) private pure returns (bytes memory bitmap) {
        bitmap = new bytes(alive % 3 == 0 ? 2 : 4);
        for (uint256 i; i < bitmap.length; ++i) {
            bitmap[i] = bytes1(uint8(alive >> (8 + 8 * i)));
        }
    }

    function _submit(uint32 epoch, uint64 mask, bytes memory bitmap) private {
        bytes32 digest = nodes.heartbeatDigest(epoch, root, Bitmaps.hashOf(bitmap));
        bytes memory sigs;
        uint256 signers;
        for (uint256 i; i < coordinators.length; ++i) {
            Party memory c = coordinators[i];
            // Those that cannot sign now are left out, or nothing would be posted.
            if (_status(c.id) != INodeRegistry.Status.Active) continue;
            if (left[c.id] && day == block.timestamp / 1 days) continue;
            if (!_inSetAfterSnapshot(c.id) || (mask >> i) & 1 == 0) continue;
            sigs = bytes.concat(sigs, _sign(c.key, digest));
            ++signers;
        }
        bool free = commitments[epoch] == 0;
        try nodes.submitHeartbeats(epoch, root, bitmap, sigs) {
            require(free, "NR-4: an epoch was posted twice");
            require(epoch < _now() && _now() - epoch <= 6, "posted outside its window");
            INodeRegistry.Quorum memory q = nodes.quorum(digest, sigs);
            require(q.count == signers && 3 * uint256(q.weight) > 2 * uint256(q.total), "too little weight");
            commitments[epoch] = keccak256(bytes.concat(root, Bitmaps.hashOf(bitmap)));
            said[epoch] = Said(root, bitmap);
            epochs.push(epoch);
            ++posts;
        } catch (bytes memory err) {
            bytes4 s = bytes4(err);
            require(
                s == INodeRegistry.EpochWindow.selector || s == INodeRegistry.EpochPosted.selector
                    || s == INodeRegistry.LowWeight.selector || s == INodeRegistry.NoCoordinators.selector,
                "unexpected revert of submitHeartbeats"
            );
        }
    }

    /// @dev A report of all that a node missed succeeds when that is enough, and only then.
    function _report(uint32 id) private {
        (uint32[] memory list, bytes32[] memory roots, bytes[] memory bitmaps) = _missed(id);
        bool due = list.length >= 24 && _status(id) == INodeRegistry.Status.Active;
        try nodes.reportMissed(id, list, roots, Bitmaps.pagesOf(bitmaps, id)) {
            if (due) ++reports;
            if (due) offline[id] = true;
            require(due || _status(id) == INodeRegistry.Status.Draining, "a node was suspended that is not at fault");
        } catch {
            require(!due, "a node that missed enough was not suspended");
        }
    }

    function _reactivate(Party memory p) private {
        bytes32[3] memory roots;
        bytes[3] memory bitmaps;
        bool due = true;
        uint32 first = _now() - 3;
        for (uint32 i; i < 3; ++i) {
            Said memory s = said[first + i];
            (roots[i], bitmaps[i]) = (s.root, s.bitmap);
            due = due && _isSet(s.bitmap, p.id);
        }
        INodeRegistry.NodeView memory n = nodes.node(p.id);
        due = due && n.status == INodeRegistry.Status.Suspended && n.statusSince <= uint256(first) * 1 hours;
        vm.prank(p.owner);
        try nodes.reactivate(p.id, first, roots, Bitmaps.threeOf(bitmaps, p.id)) {
            require(due, "a node came back that was not alive");
            offline[p.id] = false;
            ++returns_;
        } catch (bytes memory err) {
            bytes4 s = bytes4(err);
            bool stays = s == INodeRegistry.StakeTooLow.selector || s == INodeRegistry.CoordinatorsFull.selector;
            require(!due || stays, "a node that is alive cannot come back");
        }
    }

    /// @dev Whether a coordinator is a member of the snapshot that a post of now is checked against.
    function _inSetAfterSnapshot(uint32 id) private view returns (bool) {
        if (day != block.timestamp / 1 days) return true;
        (, uint32[] memory ids,) = nodes.coordinatorSet();
        for (uint256 i; i < ids.length; ++i) {
            if (ids[i] == id) return true;
        }
        return false;
    }

    /// @dev What a node missed of the last 48 epochs while it was Active.
    function _missed(uint32 id)
        private
        view
        returns (uint32[] memory list, bytes32[] memory roots, bytes[] memory bitmaps)
    {
        uint32 now_ = _now();
        uint40 from = nodes.node(id).statusSince;
        (list, roots, bitmaps) = (new uint32[](48), new bytes32[](48), new bytes[](48));
        uint256 n;
        for (uint32 epoch = now_ - 48; epoch < now_; ++epoch) {
            Said memory s = said[epoch];
            bool covered = id / 8 < s.bitmap.length;
            if (!covered || _isSet(s.bitmap, id) || self[id][epoch] || uint256(epoch) * 1 hours < from) continue;
            (list[n], roots[n], bitmaps[n]) = (epoch, s.root, s.bitmap);
            ++n;
        }
        assembly ("memory-safe") {
            mstore(list, n)
            mstore(roots, n)
            mstore(bitmaps, n)
        }
    }

    /// @dev NR-2 and NR-6: after each action every node is where a listed step leads, and a payout address that changed was
    /// asked for a day before.
    function _note() private {
        (uint24 now_,,) = nodes.coordinatorSet();
        bool taken = now_ != day;
        day = now_;
        for (uint256 i; i < allNodes(); ++i) {
            uint32 id = party(i).id;
            INodeRegistry.Status from = lastStatus[id];
            INodeRegistry.Status to = _status(id);
            if (taken) left[id] = false;
            if (from != to) {
                require(_listed(from, to), "NR-2: a step that is not listed");
                if (from == INodeRegistry.Status.Active) left[id] = true;
                lastStatus[id] = to;
            }
            address payout = nodes.payoutOf(id);
            if (payout != lastPayout[id]) {
                require(block.timestamp >= askedAt[id][payout] + 1 days, "NR-6: a payout that was not asked for");
                require(askedAt[id][payout] != 0, "NR-6: a payout that nobody asked for");
                lastPayout[id] = payout;
            }
        }
    }

    function _listed(INodeRegistry.Status from, INodeRegistry.Status to) private pure returns (bool) {
        if (from == INodeRegistry.Status.Exited || from == INodeRegistry.Status.Banned) return false;
        if (to == INodeRegistry.Status.Banned) return true;
        bool working = from == INodeRegistry.Status.Active || from == INodeRegistry.Status.Suspended;
        bool draining = from == INodeRegistry.Status.Draining;
        bool pending = from == INodeRegistry.Status.Pending;
        bool jailed = from == INodeRegistry.Status.Jailed;
        if (to == INodeRegistry.Status.Active) return pending || jailed || from == INodeRegistry.Status.Suspended;
        if (to == INodeRegistry.Status.Suspended) return jailed || from == INodeRegistry.Status.Active;
        if (to == INodeRegistry.Status.Draining) return working;
        if (to == INodeRegistry.Status.Jailed) return working || draining;
        return to == INodeRegistry.Status.Exited && (pending || draining);
    }
}
