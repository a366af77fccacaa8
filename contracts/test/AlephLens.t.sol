// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephLens} from "../src/AlephLens.sol";
import {Peers} from "../src/Peers.sol";
import {IAlephLens} from "../src/interfaces/IAlephLens.sol";
import {IDomainRegistry} from "../src/interfaces/IDomainRegistry.sol";
import {IImageMarketplace} from "../src/interfaces/IImageMarketplace.sol";
import {IJobManager} from "../src/interfaces/IJobManager.sol";
import {ISLAManager} from "../src/interfaces/ISLAManager.sol";
import {IStorageRegistry} from "../src/interfaces/IStorageRegistry.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Fqdn} from "../src/libraries/Fqdn.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {Payees} from "../src/libraries/Payees.sol";
import {ImageSuite} from "./utils/ImageSuite.sol";

contract AlephLensTest is ImageSuite {
    uint128 internal constant RATE = uint128(1e12 * Q);

    function setUp() public override {
        super.setUp();
    }

    function test_constructor_revertsWithoutPayments() public {
        Peers memory p = _peers();
        p.payments = address(0);
        bytes memory code = abi.encodePacked(_code("AlephLens"), abi.encode(p));
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        _create(code);
    }

    function test_network() public {
        _publish(_free());
        images.pause(Pausing.ENTRY, 1 days);
        nodes.pause(Pausing.PENALTY, 1 days);
        IAlephLens.NetworkInfo memory n = lens.network();
        assertEq(n.timestamp, START);
        assertEq(n.lastNodeId, 12);
        assertEq(n.activeCoordinators, 8);
        assertEq(n.snapshotDay, START / 1 days);
        assertEq(n.lastToken, 1);
        assertEq(n.lastImage, 1);
        assertEq(n.imageBond, 50);
        assertEq(n.prepay, 1 hours);
        assertEq(n.softGrace, 1 hours);
        assertEq(n.hardGrace, 24 hours);
        assertEq(n.unbonding, staking.unbonding());
        assertEq(n.minCompute, 10_000 ether);
        assertEq(n.paused[0], Pausing.PENALTY);
        assertEq(n.paused[7], Pausing.ENTRY);
        assertEq(n.paused[3], 0);
    }

    function test_node() public {
        uint32 id = workers[0].id;
        _run("job", RATE, workers[0]);
        vm.mockCall(storagesAt, abi.encodeCall(IStorageRegistry.activeCommitments, (id)), abi.encode(3));
        vm.mockCall(slaAt, abi.encodeCall(ISLAManager.points, (id)), abi.encode(7, 0, 0));
        IAlephLens.NodeInfo memory n = lens.node(id);
        assertEq(n.nodeId, id);
        assertEq(abi.encode(n.node), abi.encode(nodes.node(id)));
        (uint128 self, uint128 delegated, uint128 unbonding) = staking.totalStake(id);
        assertEq(n.selfStake, self);
        assertEq(n.delegated, delegated);
        assertEq(n.unbonding, unbonding);
        assertEq(n.slashable, staking.slashable(id));
        assertEq(n.weight, staking.weight(id));
        assertTrue(n.meetsRequirement);
        assertEq(n.jobs, 1);
        assertEq(n.commitments, 3);
        assertEq(n.points, 7);
        assertEq(n.selfHeartbeats, 0);
        // What is not there is zero.
        assertFalse(lens.node(99).meetsRequirement);
        vm.mockCallRevert(slaAt, abi.encodeCall(ISLAManager.points, (id)), "no");
        assertEq(lens.node(id).points, 0);
    }

    function test_node_heartbeats() public {
        uint32 epoch = uint32(START / 1 hours);
        vm.prank(workers[0].signer);
        nodes.selfHeartbeat(workers[0].id, epoch);
        assertEq(lens.node(workers[0].id).selfHeartbeats, 1);
        skip(2 hours);
        assertEq(lens.node(workers[0].id).selfHeartbeats, 4);
        vm.mockCall(address(nodes), abi.encodeCall(nodes.heartbeatOf, (epoch + 1)), abi.encode(bytes32("root")));
        (uint32 now_, uint32 posted) = lens.heartbeats();
        assertEq(now_, epoch + 2);
        assertEq(posted, 2);
    }

    function test_nodes_inPages() public {
        (IAlephLens.NodeInfo[] memory list, uint32 next) = lens.nodes(0, 5);
        assertEq(list.length, 5);
        assertEq(list[0].nodeId, 1);
        assertEq(next, 6);
        (list, next) = lens.nodes(next, 100);
        assertEq(list.length, 7);
        assertEq(list[6].nodeId, 12);
        assertEq(next, 0);
        (list, next) = lens.nodes(13, 1);
        assertEq(list.length + next, 0);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 100));
        lens.nodes(1, 0);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 101, 1, 100));
        lens.nodes(1, 101);
    }

    function test_delegations() public {
        uint32 id = workers[0].id;
        address who = makeAddr("delegator");
        gateway.mint(token, who, 100 ether);
        vm.startPrank(who);
        token.approve(address(staking), type(uint256).max);
        staking.delegate(id, 100 ether, 0);
        (, uint128 shares) = staking.positionValue(id, who);
        staking.undelegate(id, shares / 4, 0);
        vm.stopPrank();
        uint32[] memory ids = new uint32[](2);
        (ids[0], ids[1]) = (id, workers[1].id);
        IAlephLens.DelegationInfo[] memory list = lens.delegations(who, ids);
        (uint128 tokens, uint128 left) = staking.positionValue(id, who);
        assertEq(list[0].nodeId, id);
        assertEq(list[0].tokens, tokens);
        assertEq(list[0].shares, left);
        assertEq(list[0].leaving.length, 1);
        assertEq(list[0].leaving[0].unlock, START + staking.unbonding());
        assertApproxEqAbs(list[0].leaving[0].tokens, 25 ether, 1e6);
        assertEq(list[1].tokens, 0);
        assertEq(list[1].leaving.length, 0);
    }

    function test_accounts() public {
        _run("job", RATE, workers[0]);
        IAlephLens.AccountInfo[] memory list = lens.accounts(payer);
        assertEq(list.length, 1);
        assertEq(list[0].token, ALEPH);
        assertEq(abi.encode(list[0].info), abi.encode(payments.tokenOf(ALEPH)));
        assertEq(abi.encode(list[0].account), abi.encode(payments.account(payer, ALEPH)));
        assertEq(list[0].balance, token.balanceOf(payer));
        assertEq(list[0].allowance, token.allowance(payer, address(payments)));
        (uint40 a, uint40 b, uint40 c, uint40 d) = lens.runway(payer, ALEPH);
        assertEq(
            abi.encode(list[0].paidUntil, list[0].allowanceUntil, list[0].softStop, list[0].hardStop),
            abi.encode(a, b, c, d)
        );
        skip(60);
        _claim(workers[0].id);
        assertEq(lens.credits(workers[0].id)[0], payments.creditOf(workers[0].id, ALEPH));
    }

    function test_job() public {
        uint32 seq = _publish(_priced(IImageMarketplace.Model.Flat, RATE));
        _run("job", RATE, workers[0]);
        vm.prank(address(jobs));
        payments.setFlow(payer, ALEPH, Payees.ofImage(seq), int256(uint256(RATE)));
        IJobManager.JobView memory j = jobs.job("job");
        IAlephLens.JobInfo memory i = lens.job("job");
        assertEq(i.spec, "job");
        assertEq(abi.encode(i.job), abi.encode(j));
        assertEq(abi.encode(i.pair), abi.encode(payments.pair(payer, ALEPH, workers[0].id)));
        assertEq(i.paidUntil, payments.account(payer, ALEPH).paidUntil);
        assertEq(i.imagePair.rateQ32, 0);
        j.imageSeq = seq;
        _setJob("job", j);
        i = lens.job("job");
        assertEq(i.imagePair.rateQ32, RATE);
        assertTrue(i.imageIsPaying);
        bytes32[] memory specs = new bytes32[](2);
        (specs[0], specs[1]) = ("none", "job");
        IAlephLens.JobInfo[] memory list = lens.jobs(specs);
        assertEq(list[0].job.payer, address(0));
        assertEq(list[1].job.payer, payer);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 101, 1, 100));
        lens.jobs(new bytes32[](101));
    }

    function test_domain() public {
        vm.prank(payer);
        (bytes32 key,) = domains.request("example.com", IDomainRegistry.TargetType.None, 0);
        bytes memory sigs =
            _sigs(domains.attestationDigest(key, payer, 0, IDomainRegistry.Method.Token, START), hex"0001020304");
        domains.verify(key, payer, IDomainRegistry.Method.Token, START, sigs);
        IAlephLens.DomainInfo memory d = lens.domain("example.com");
        assertEq(d.key, key);
        assertEq(d.domain.owner, payer);
        bytes32[] memory keys = new bytes32[](2);
        keys[1] = key;
        IAlephLens.DomainInfo[] memory list = lens.domains(keys);
        assertEq(list[0].domain.owner, address(0));
        assertEq(list[1].domain.owner, payer);
        vm.expectRevert(abi.encodeWithSelector(Fqdn.BadFqdn.selector, 0));
        lens.domain("Example.com");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 100));
        lens.domains(new bytes32[](0));
    }

    function test_images() public {
        images.setUsdUnit(ALEPH, 10 ether);
        uint32 seq = _publish(_royalty(500));
        _publish(_free());
        assertEq(lens.image(seq).score, 3_500, "no ratings: the prior");
        _setJob("job", _ranJob(seq, 24 hours));
        vm.prank(payer);
        images.rate(seq, 5, "job", 0);
        IAlephLens.ImageInfo memory i = lens.image(seq);
        // (50 * 3.5 + 4 * 5) / 54.
        assertEq(i.score, 3_611);
        assertEq(i.ratings, 1);
        assertEq(abi.encode(i.image), abi.encode(images.image(seq)));
        assertTrue(i.usable && i.isPaying);
        (IAlephLens.ImageInfo[] memory list, uint32 next) = lens.images(1, 1);
        assertEq(list.length, 1);
        assertEq(next, 2);
        (list, next) = lens.images(2, 10);
        assertEq(list[0].seq, 2);
        assertEq(next, 0);
    }
}
