// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {IStakingManager} from "../../src/interfaces/IStakingManager.sol";
import {AlephErrors} from "../../src/libraries/AlephErrors.sol";
import {Suite} from "../utils/Suite.sol";

/// @title StakingHandler
/// @notice Owners, delegators, the SLAManager and bystanders that do anything in any order with the StakingManager, with
/// books of their own.
contract StakingHandler is Suite {
    /// @dev What a property is about that only an action can see: how often it did not hold.
    mapping(string property => uint256) public broken;

    uint32[] public ids;
    address[] public people;
    uint256 public steps;

    /* BOOKS, of everything that came in and went out */

    uint256 public deposited;
    uint256 public withdrawn;
    uint256 public slashed;
    uint256 public dust;
    mapping(bytes32 caseId => uint256) public slashesOf;
    bytes32[] public cases;
    mapping(uint32 id => uint256) public cycles;
    mapping(uint32 id => mapping(address who => uint256[8])) internal asked;

    struct Look {
        uint256 tokens;
        uint256 shares;
        uint256 gen;
        uint256 owners;
        uint256 held;
        uint256 supply;
        uint256 slashable;
    }

    /// @dev Not a test: the invariant test deploys this and calls {start}.
    function setUp() public override {}

    function start() external {
        Suite.setUp();
        ids.push(workers[0].id);
        ids.push(workers[1].id);
        ids.push(coordinators[0].id);
        for (uint256 i; i < 3; ++i) {
            people.push(makeAddr(string.concat("delegator", vm.toString(i))));
        }
        deposited = token.balanceOf(address(staking));
    }

    modifier step() {
        ++steps;
        _;
    }

    function contracts() external view returns (address, address, address) {
        return (address(token), address(nodes), address(staking));
    }

    function counts() external view returns (uint256, uint256, uint256) {
        return (ids.length, people.length, cases.length);
    }

    function owner(uint256 node) public view returns (address) {
        return nodes.node(ids[node % ids.length]).owner;
    }

    /* DELEGATORS */

    function delegate(uint256 node, uint256 who, uint256 amount) external step {
        uint32 id = ids[node % ids.length];
        address p = people[who % people.length];
        uint128 value = uint128(bound(amount, 1 ether, amount % 3 == 0 ? 2 ether : 2_000_000 ether));
        Look memory before = _look(id);
        gateway.mint(token, p, value);
        vm.startPrank(p);
        token.approve(address(staking), value);
        try staking.delegate(id, value, 0) returns (uint128 shares) {
            deposited += value;
            uint256 least = uint256(value) * (before.shares + 1e3) / (before.tokens + 1);
            _check("R3", shares == least);
        } catch (bytes memory err) {
            _allow(err, IStakingManager.PoolCap.selector, IStakingManager.PoolSpent.selector, 0);
        }
        vm.stopPrank();
        _checkPrice(id, before);
    }

    function undelegate(uint256 node, uint256 who, uint256 part) external step {
        uint32 id = ids[node % ids.length];
        address p = people[who % people.length];
        (, uint128 held) = staking.positionValue(id, p);
        if (held == 0) return;
        uint128 shares = part % 4 == 0 ? held : uint128(bound(part, 1, held));
        Look memory before = _look(id);
        (,,, uint128 leavingBefore,,) = staking.pool(id);
        vm.prank(p);
        try staking.undelegate(id, shares, 0) returns (uint8 tranche) {
            (,,, uint128 leavingAfter,,) = staking.pool(id);
            asked[id][p][tranche] += leavingAfter - leavingBefore;
        } catch (bytes memory err) {
            _allow(
                err,
                IStakingManager.TrancheFull.selector,
                IStakingManager.BelowMinimum.selector,
                AlephErrors.ZeroAmount.selector
            );
        }
        _checkPrice(id, before);
    }

    function cancelUndelegate(uint256 node, uint256 who, uint256 tranche) external step {
        uint32 id = ids[node % ids.length];
        address p = people[who % people.length];
        uint8 index = uint8(tranche % 8);
        Look memory before = _look(id);
        vm.prank(p);
        try staking.cancelUndelegate(id, index) {
            asked[id][p][index] = 0;
        } catch (bytes memory err) {
            if (bytes4(err) != IStakingManager.PoolSpent.selector && bytes4(err) != AlephErrors.ZeroAmount.selector) {
                _allow(
                    err,
                    IStakingManager.PoolCap.selector,
                    IStakingManager.BelowMinimum.selector,
                    IStakingManager.StaleGeneration.selector
                );
            }
        }
        _checkPrice(id, before);
    }

    function withdraw(uint256 node, uint256 who, uint256 tranche) external step {
        uint32 id = ids[node % ids.length];
        address p = people[who % people.length];
        uint8[] memory list = new uint8[](1);
        list[0] = uint8(tranche % 8);
        (uint128 value,, uint40 unlock) = staking.tranche(id, p, list[0]);
        uint256 had = token.balanceOf(p);
        vm.prank(p);
        try staking.withdraw(id, list) returns (uint128 paid) {
            _check("ST-6", block.timestamp >= unlock && block.timestamp >= staking.frozenUntil(id));
            _check("ST-6", paid == value && token.balanceOf(p) - had == paid);
            // Everybody's roundings stay in the pool: a wei for each that left before.
            _check("ST-6", paid <= asked[id][p][list[0]] + steps);
            withdrawn += paid;
            asked[id][p][list[0]] = 0;
        } catch (bytes memory err) {
            _allow(
                err,
                IStakingManager.NotUnlocked.selector,
                IStakingManager.FrozenUntil.selector,
                AlephErrors.ZeroAmount.selector
            );
        }
    }

    /* OWNERS */

    function stake(uint256 node, uint256 amount) external step {
        Party memory p = _party(node);
        uint128 value = uint128(bound(amount, 1, 100_000 ether));
        _stake(p, value);
        deposited += value;
    }

    function requestUnstake(uint256 node, uint256 amount) external step {
        Party memory p = _party(node);
        (uint128 self,,) = staking.stakeOf(p.id);
        if (self == 0) return;
        vm.prank(p.owner);
        try staking.requestUnstake(p.id, uint128(bound(amount, 1, self))) {}
        catch (bytes memory err) {
            _allow(err, IStakingManager.RequirementHeld.selector, 0, 0);
        }
    }

    function withdrawSelf(uint256 node) external step {
        Party memory p = _party(node);
        (, uint128 waiting, uint40 unlock) = staking.stakeOf(p.id);
        vm.prank(p.owner);
        try staking.withdrawSelf(p.id) {
            _check("ST-6", block.timestamp >= unlock && block.timestamp >= staking.frozenUntil(p.id));
            withdrawn += waiting;
        } catch (bytes memory err) {
            _allow(
                err,
                IStakingManager.NotUnlocked.selector,
                IStakingManager.FrozenUntil.selector,
                AlephErrors.ZeroAmount.selector
            );
        }
    }

    function setCommission(uint256 node, uint256 bps) external step {
        Party memory p = _party(node);
        vm.prank(p.owner);
        staking.setCommission(p.id, uint16(bps % 3_001));
    }

    function claimOwner(uint256 node) external step {
        Party memory p = _party(node);
        (,,,,, uint128 credit) = staking.rewards(p.id);
        try staking.claimOwner(p.id) {
            withdrawn += credit;
        } catch (bytes memory err) {
            _allow(err, AlephErrors.ZeroAmount.selector, 0, 0);
        }
    }

    function drain(uint256 node) external step {
        if (steps % 16 != 0) return;
        Party memory p = _party(node);
        vm.prank(p.owner);
        try nodes.drain(p.id) {} catch {}
    }

    /* BYSTANDERS */

    function addRewards(uint256 node, uint256 amount) external step {
        uint32 id = ids[node % ids.length];
        uint128 value = uint128(bound(amount, 1 ether, 10_000 ether));
        Look memory before = _look(id);
        gateway.mint(token, address(this), value);
        token.approve(address(staking), value);
        staking.addRewards(id, value);
        deposited += value;
        _checkPrice(id, before);
    }

    function syncVotes(uint256 who) external step {
        staking.syncVotes(people[who % people.length], ids);
    }

    function delegateVotes(uint256 who, uint256 to) external step {
        address delegatee = to % 5 == 4 ? address(0) : people[to % people.length];
        vm.prank(who % 4 == 3 ? owner(to) : people[who % people.length]);
        staking.delegate(delegatee);
    }

    /// @dev To the edges of things, and a second around them.
    function warp(uint256 time, uint256 node, uint256 who) external step {
        uint256 pick = time % 6;
        uint256 target = block.timestamp + bound(time, 1, 3 days);
        uint32 id = ids[node % ids.length];
        if (pick == 1) target = (block.timestamp / 1 weeks + 1) * 1 weeks;
        if (pick == 2) (,, target) = staking.tranche(id, people[who % people.length], uint8(time % 8));
        if (pick == 3) (, target,,,,) = staking.rewards(id);
        if (pick == 4) target = staking.frozenUntil(id);
        if (pick == 5) (,, target) = staking.stakeOf(id);
        if (target != 0) target = target + time % 3 - 1;
        if (target > block.timestamp && target < block.timestamp + 60 days) vm.warp(target);
        else skip(1);
    }

    /* PENALTIES */

    function slash(uint256 node, uint256 amount, bool fatal) external step {
        uint32 id = ids[node % ids.length];
        Look memory before = _look(id);
        uint256[] memory values = _values(id);
        if (before.slashable == 0) return;
        uint128 value = _penalty(amount, before.slashable);
        (uint256 took, uint256 besides) = _slash(id, value, fatal);
        Look memory present = _look(id);
        _check("R5", took == (value < before.slashable ? value : before.slashable));
        _check("ST-4", before.held - present.held == took + besides && before.supply == present.supply);
        // The dust of two pools, and what had not dripped.
        _check("ST-4", present.gen != before.gen || besides < 1e15);
        _check("ST-10", present.owners <= before.owners);
        if (present.gen == before.gen) _checkLosses(values, _values(id), before.tokens, present.tokens);
    }

    /// @dev Mostly a small part, sometimes nearly everything, rarely all.
    function _penalty(uint256 amount, uint256 all) private pure returns (uint128) {
        if (amount % 31 == 0) return type(uint128).max;
        if (amount % 11 == 0 && all > 1e16) return uint128(bound(amount, all - 1e16, all + 1));
        return uint128(bound(amount, 0, all / 20));
    }

    function _slash(uint32 id, uint128 value, bool fatal) private returns (uint128 took, uint128 besides) {
        bytes32 caseId = keccak256(abi.encode(steps));
        cases.push(caseId);
        uint256 had = token.balanceOf(slaAt);
        vm.prank(slaAt);
        (took, besides) = staking.slash(id, value, IStakingManager.SlashMode(fatal ? 1 : 0), caseId);
        ++slashesOf[caseId];
        slashed += took;
        dust += besides;
        _check("ST-4", token.balanceOf(slaAt) - had == uint256(took) + besides);
    }

    /// @dev ST-7: what is left of each position is the same part of it, but for a wei of each.
    function _checkLosses(uint256[] memory values, uint256[] memory left, uint256 tokens, uint256 rest) private {
        for (uint256 i; i < values.length; ++i) {
            uint256 a = left[i] * (tokens + 1);
            uint256 b = values[i] * (rest + 1);
            _check("ST-7", (a > b ? a - b : b - a) <= tokens + rest + 2);
        }
    }

    function freeze(uint256 node, uint256 time) external step {
        uint32 id = ids[node % ids.length];
        uint256 before = staking.frozenUntil(id);
        vm.prank(slaAt);
        staking.freeze(id, uint40(block.timestamp + time % 9 days));
        uint256 until = staking.frozenUntil(id);
        _check("R14", until >= before && (until == before || until <= block.timestamp + 7 days));
    }

    /* BOOKS */

    function _look(uint32 id) private view returns (Look memory l) {
        (l.tokens, l.shares, l.gen,,,) = staking.pool(id);
        (uint128 self, uint128 waiting,) = staking.stakeOf(id);
        (,,,,, uint128 credit) = staking.rewards(id);
        l.owners = uint256(self) + waiting + credit;
        l.held = token.balanceOf(address(staking));
        l.supply = token.totalSupply();
        l.slashable = staking.slashable(id);
    }

    function _values(uint32 id) private view returns (uint256[] memory values) {
        values = new uint256[](people.length);
        for (uint256 i; i < people.length; ++i) {
            (values[i],) = staking.positionValue(id, people[i]);
        }
    }

    /// @dev ST-5: nothing but a slash lowers the price. When all have left there is nobody to have lost.
    function _checkPrice(uint32 id, Look memory before) private {
        (uint256 tokens, uint256 shares,,,,) = staking.pool(id);
        if (shares == 0) return;
        _check("ST-5", (tokens + 1) * (before.shares + 1e3) >= (before.tokens + 1) * (shares + 1e3));
    }

    function _check(string memory property, bool holds) private {
        if (!holds) ++broken[property];
    }

    function _allow(bytes memory err, bytes4 a, bytes4 b, bytes4 c) private pure {
        bytes4 s = bytes4(err);
        require(s == a || s == b || s == c, string.concat("unexpected revert: ", vm.toString(err)));
    }

    function _party(uint256 node) private view returns (Party memory) {
        uint256 i = node % ids.length;
        return i == 2 ? coordinators[0] : workers[i];
    }
}
